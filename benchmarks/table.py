"""Print the figures of a trained run for RESULTS.md: scores, learning curve, time, hardware and versions.

python -m benchmarks.table --competition svhn --run-name official
"""

import csv
from dataclasses import dataclass

import numpy as np

from benchmarks.measuring import processor
from src.config import Paths
from src.core import cli
from src.inference.ensemble import out_of_fold
from src.metrics import metric_of
from src.report.intervals import interval_of
from src.runs.run import open_run


@dataclass(frozen=True, kw_only=True)
class TableConfig(Paths):
    """Which run to describe."""

    run_name: str = "baseline"
    epochs: tuple[int, ...] = (3, 6, 9, 12, 18, 24)
    """Epochs of the learning curve to print."""


def main(config: TableConfig) -> None:
    """Print the figures as Markdown."""
    run = open_run(config, config.run_name)
    folds = run.trained()
    numbers = tuple(fold.number for fold in folds)
    for tta in (False, True):
        oof = out_of_fold(run, numbers, tta)
        low, high, _ = interval_of(oof)
        name = f"{metric_of(run.competition).name}, {'mean over views' if tta else 'plain image'}"
        print(f"- {name}: **{oof.score:.4f}** (n = {len(oof.target):,}, 95% interval {low:.4f} to {high:.4f})")
    results = [fold.result for fold in folds]
    for key in ("score", "score_tta"):
        scores = [getattr(result, key) for result in results]
        spread = f" ± {np.std(scores, ddof=1):.4f}" if len(scores) > 1 else ""
        print(
            f"- {key} of {len(scores)} folds: {np.mean(scores):.4f}{spread} ({', '.join(f'{s:.4f}' for s in scores)})"
        )
    logs = []
    for fold in folds:
        with open(fold.paths.log, newline="") as stream:
            logs.append(list(csv.DictReader(stream)))
    epochs = [epoch for epoch in config.epochs if all(len(log) >= epoch for log in logs)]
    curve = [np.mean([float(log[epoch - 1]["score"]) for log in logs]) for epoch in epochs]
    print(f"- after {' / '.join(map(str, epochs))} epochs: {' / '.join(f'{score:.3f}' for score in curve)}")
    rate = np.median([result.images_per_second for result in results])
    waiting = np.mean([float(row["waiting_share"]) for log in logs for row in log])
    print(f"- {sum(result.seconds for result in results) / 60:.1f} minutes of training and validation in total, "
          f"{rate:.0f} training images/s, {waiting:.1%} of the time spent waiting for data")  # fmt: skip
    print(f"- {folds[0].record.num_train:,} training images per fold, {processor()}, {folds[0].record.versions}")


if __name__ == "__main__":
    cli.run(main, TableConfig, __doc__)
