"""How a run was trained: its learning curves from log.csv, its folds, its settings."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.core.flags import flat_values
from src.core.progress import minutes
from src.pages.page import line_chart
from src.runs.fold import TrainedFold
from src.runs.log import read_rows
from src.runs.run import Run

CURVES = {  # title of each column of log.csv that is drawn
    "loss": "Training loss",
    "score": "Score on the held-out images",
    "lr": "Learning rate",
    "images_per_second": "{served} per second",
}


def read_log(path: Path) -> pd.DataFrame | None:
    """Return the whole rows of log.csv as numbers, or None if there are none: no result depends on it."""
    table = pd.DataFrame(read_rows(path)).astype(np.float64)
    return table if len(table) and {"epoch", "loss", "score"} <= set(table.columns) else None


def learning_curves(folds: Sequence[TrainedFold], score_name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a chart of each of CURVES, a line per fold, and notes about logs that cannot be shown."""
    logs, notes = {}, []
    for fold in folds:
        log = read_log(fold.paths.log)
        if log is None:
            notes.append(f"Fold {fold.number} has no readable log.csv.")
        else:
            logs[f"fold {fold.number}"] = log
    last = max((int(log["epoch"].max()) for log in logs.values()), default=1)
    limits = {"xrange": [1, last]} if last > 1 else {}
    charts, served = [], what_is_served(folds)
    for column, title in CURVES.items():
        series = {name: (log["epoch"], log[column]) for name, log in logs.items() if column in log.columns}
        if series:
            y = score_name if column == "score" else ""
            title = title.format(served=served.capitalize())
            charts.append(line_chart(title, "epoch", y, series, points=True, integers=True, **limits))
    return charts, notes


def what_is_served(folds: Sequence[TrainedFold]) -> str:
    """Return what log.csv counts per second: a linear probe is trained on features that are computed before."""
    return "features" if any(fold.record.run.train.freeze_backbone for fold in folds) else "images"


def fold_rows(folds: Sequence[TrainedFold], scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per fold: its score with its interval, and how it was trained; `scores` are those of scores.json."""
    return [
        {
            "fold": fold.number,
            "score": scores["folds"][str(fold.number)],
            "95% interval": _interval(*scores["fold_intervals_95"][str(fold.number)]),
            "plain image": None if math.isnan(fold.result.score) else fold.result.score,
            "held out": fold.record.num_val,
            "trained on": fold.record.num_train,
            "epochs": fold.result.epochs,
            "time": minutes(fold.result.seconds),
            f"{what_is_served(folds)}/s": round(fold.result.images_per_second),
        }
        for fold in folds
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "undefined" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def settings(run: Run) -> list[tuple[str, str, bool]]:
    """Return each setting of the training: its flag, its value, and whether it is the default."""
    train, found = run.started_record.train, []
    default = flat_values(type(train)())
    for name, value in (flat_values(train) | {"weights": run.started_record.weights}).items():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        found.append((f"--{name}".replace("_", "-"), shown or "none", value == default[name]))
    return found


def command_of(run: Run, number: int) -> str:
    """Return the command that trains this run, whose fold of this number was started."""
    return run.train_command(number).replace(f" --fold {number}", "", 1)
