"""sweep.csv: a row per combination of settings, with mean, spread and the paired difference to the first one."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from src.config import SweepConfig
from src.core.errors import InputError
from src.data.prepared import Prepared
from src.inference.ensemble import OutOfFold, out_of_fold
from src.report.intervals import difference_over_seeds
from src.runs.run import known_runs, open_run
from src.sweeping.plan import Member, parse_train


def check_same_data(config: SweepConfig, members: list[Member], prepared: Prepared) -> None:
    """Raise InputError for a run, there already, of other images or another size than a new one would read."""
    known = set(known_runs(config))
    for member in members:
        if member.name not in known:
            continue
        run = open_run(config, member.name)
        found = run.prepared.id, run.started_record.cache_size
        expected = prepared.id, prepared.cache_size(parse_train(member.flags).image_size)
        if found != expected:
            (snapshot, size), (newest, other) = found, expected
            raise InputError(
                f"{run.folder}: was trained on snapshot {snapshot} at {size[0]}x{size[1]}, new runs would be on "
                f"{newest} at {other[0]}x{other[1]}; use another --run-name, or delete this run"
            )


def _out_of_fold(config: SweepConfig, member: Member) -> OutOfFold | None:
    """Return the out-of-fold predictions of a run, or None if a fold is not trained."""
    try:
        return out_of_fold(open_run(config, member.name), None if config.fold == "all" else (int(config.fold),))
    except InputError:
        return None


def summarise(config: SweepConfig, members: list[Member], failed: Collection[str] = ()) -> pd.DataFrame:
    """Return the table; combinations without a finished run have no score.

    failed: names of runs whose training failed; a run of such a name may be there, from other settings. Differences
    are over the seeds that both combinations have.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[int, OutOfFold]] = {}
    for member in members:
        oof = None if member.name in failed else _out_of_fold(config, member)
        of_seed = groups.setdefault(tuple(member.settings.items()), {})
        if oof is not None:
            of_seed[member.seed] = oof
    first = next(iter(groups.values()))
    rows: list[dict[str, Any]] = []
    for settings, found in groups.items():
        row: dict[str, Any] = {**dict(settings), "seeds": len(found)}
        if found:
            scores = [oof.score for oof in found.values()]
            row |= {"score": np.mean(scores), "std_over_seeds": np.std(scores, ddof=1) if len(found) > 1 else np.nan}
        both = [(first[seed], found[seed]) for seed in found if seed in first]
        if rows and both and both[0][0].labels["image_path"].equals(both[0][1].labels["image_path"]):
            pairs = [list(oofs) for oofs in zip(*both, strict=True)]
            row["difference"], row["difference_95"] = difference_over_seeds(*pairs)
        rows.append(row)
    return pd.DataFrame(rows)
