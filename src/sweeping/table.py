"""sweep.csv: a row per combination of settings, with mean, spread and the paired difference to the first one."""

from typing import Any

import numpy as np
import pandas as pd

from src.config import SweepConfig
from src.core.errors import InputError
from src.inference.ensemble import out_of_fold
from src.runs.run import open_run
from src.sweeping.plan import Member


def paired_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the mean of other - one over images that both answered, and half the width of its 95% interval.

    one, other (N,) are shares of seeds that were right; images are taken as independent.
    """
    difference = other.astype(np.float64) - one
    return float(difference.mean()), float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference)))


def _right(config: SweepConfig, member: Member) -> pd.Series | None:
    """Return whether each held-out image was right, or None if a fold is not trained."""
    try:
        oof = out_of_fold(open_run(config, member.name), None if config.fold == "all" else (int(config.fold),))
    except InputError:
        return None
    return pd.Series(oof.right, index=oof.labels["image_path"])


def summarise(config: SweepConfig, members: list[Member]) -> pd.DataFrame:
    """Return the table; combinations without a finished run have no score."""
    groups: dict[tuple[tuple[str, str], ...], list[pd.Series]] = {}
    for member in members:
        right = _right(config, member)
        kept = groups.setdefault(tuple(member.settings.items()), [])
        if right is not None:
            kept.append(right)
    first: pd.Series | None = None
    rows: list[dict[str, Any]] = []
    for settings, found in groups.items():
        row: dict[str, Any] = {**dict(settings), "seeds": len(found)}
        if found:
            scores = [right.mean() for right in found]
            row |= {"score": np.mean(scores), "std_over_seeds": np.std(scores, ddof=1) if len(found) > 1 else np.nan}
            mean = pd.concat(found, axis=1).mean(axis=1)
            if first is None:
                first = mean
            elif mean.index.equals(first.index):
                row["difference"], row["difference_95"] = paired_difference(first.to_numpy(), mean.to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)
