"""A run's predictions as one file for `src.blend --external`, so that its weights may stay where they were made.

    python -m src.predict --run-name lite0
    python -m benchmarks.pack_run --run-name lite0 --out lite0.npz

Needs the run's oof.npz files and submissions/<competition>/<run>.npz, which predict wrote.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.config import Paths
from src.core import cli
from src.core.writing import write_arrays
from src.inference.answered import answered_by
from src.inference.ensemble import out_of_fold
from src.runs.run import open_run


@dataclass(frozen=True, kw_only=True)
class PackConfig(Paths):
    """Which run."""

    run_name: str = "baseline"
    out: Path = Path("run.npz")


def main(config: PackConfig) -> None:
    """Write --out. Raises InputError if the run has no submission."""
    run = open_run(config, config.run_name)
    oof = out_of_fold(run)
    test_paths, predicted = answered_by(run, config.submissions_dir)
    paths = np.array([*oof.labels["image_path"], *test_paths])
    write_arrays(config.out, image_path=paths, probabilities=np.concatenate([oof.probabilities, predicted]))
    print(f"{config.out}: {len(paths):,} images; {oof.score:.4f} out of fold")


if __name__ == "__main__":
    cli.run(main, PackConfig, __doc__)
