"""Print what RESULTS.md quotes of a trained run: scores, learning curve, time, hardware and versions.

python -m benchmarks.table --competition svhn --run-name official
"""

import csv
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.config import Paths
from src.core import cli
from src.data.labels import open_competition
from src.inference.ensemble import out_of_fold
from src.report.scores import bootstrap_interval
from src.runs.run import open_run


@dataclass(frozen=True, kw_only=True)
class TableConfig(Paths):
    """Which run to describe."""

    run: str = "baseline"
    epochs: tuple[int, ...] = (3, 6, 9, 12, 18, 24)
    """Epochs of the learning curve."""


def processor() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} x {names[0] if names else platform.processor()}"


def main(config: TableConfig) -> None:
    """Print Markdown."""
    competition, prepared = open_competition(config.competition, config.runs_dir)
    run_dir = config.runs_dir / competition.name / config.run_name
    folds = open_run(run_dir, competition, None)
    numbers = tuple(fold.number for fold in folds)
    for tta in (False, True):
        right = out_of_fold(run_dir, prepared, competition, numbers, tta).right
        low, high = bootstrap_interval(right, 2000)
        name = f"{competition.score_name}, {'mean over views' if tta else 'plain image'}"
        print(f"- {name}: **{right.mean():.4f}** (n = {len(right):,}, 95% interval {low:.4f} to {high:.4f})")
    for key in ("score", "score_tta"):
        scores = [fold.config["result"][key] for fold in folds]
        spread = f" ± {np.std(scores, ddof=1):.4f}" if len(scores) > 1 else ""
        print(
            f"- {key} of {len(scores)} folds: {np.mean(scores):.4f}{spread} ({', '.join(f'{s:.4f}' for s in scores)})"
        )
    logs = []
    for fold in folds:
        with open(fold.folder / "log.csv", newline="") as stream:
            logs.append(list(csv.DictReader(stream)))
    epochs = [epoch for epoch in config.epochs if all(len(log) >= epoch for log in logs)]
    curve = [np.mean([float(log[epoch - 1]["score"]) for log in logs]) for epoch in epochs]
    print(f"- after {' / '.join(map(str, epochs))} epochs: {' / '.join(f'{score:.3f}' for score in curve)}")
    results = [fold.config["result"] for fold in folds]
    rate = np.median([result["images_per_second"] for result in results])
    waiting = np.mean([float(row["waiting_share"]) for log in logs for row in log])
    print(f"- {sum(result['seconds'] for result in results) / 60:.1f} minutes of training and scoring in all, "
          f"{rate:.0f} training images/s, {waiting:.1%} of the time spent waiting for data")  # fmt: skip
    print(f"- {folds[0].config['num_train']:,} training images a fold, {processor()}, {folds[0].config['versions']}")


if __name__ == "__main__":
    cli.run(main, TableConfig, __doc__)
