"""Answer the test set with every trained fold and label-safe views; write a validated submission.

    python -m src.predict
    python -m src.predict --competition demo --no-tta          (seconds on a CPU)

Writes submissions/<competition>/<run>.csv, .json (how it was made) and .npz (probabilities).
"""

import cv2

from src.config import PredictConfig, check_name, check_range
from src.core import cli
from src.core.runtime import choose_compute, keep_freed_memory
from src.data.labels import open_competition
from src.data.tta import tta_views
from src.inference.autotune import check_compile
from src.inference.ensemble import predict_test, weighted_mean
from src.inference.submission import describe_folds, write_submission
from src.runs.run import open_run


def main(config: PredictConfig) -> None:
    """Write a submission. Raises InputError for absent or unfit runs, and for answers that would be refused."""
    keep_freed_memory()
    cv2.setNumThreads(0)
    competition, prepared = open_competition(config.competition, config.runs_dir)
    name = config.name or "+".join(config.run_name)
    check_name("name", name)
    check_range("batch-size", config.batch_size, 1)
    compute = choose_compute(config.device, config.precision)
    check_compile(config.compile == "on")
    means, facts = [], []
    for run in config.run_name:
        folds = open_run(config.runs_dir / competition.name / run, competition, config.folds)
        parts = []
        for fold in folds:
            parts.append(
                predict_test(
                    fold,
                    prepared,
                    competition,
                    compute,
                    tta=config.tta,
                    batch_size=config.batch_size,
                    wanted=config.compile,
                )
            )
            print(f"{run}, fold {fold.number}: {len(parts[-1]):,} test images")
        means.append(weighted_mean(parts, [1.0] * len(parts)))
        facts.append({"run": run, "weight": 1 / len(config.run_name), "folds": describe_folds(folds)})
    size = folds[0].image_size
    views = list(tta_views(competition.hflip_ok, size)) if config.tta else ["original"]
    mean = weighted_mean(means, [1.0] * len(means))
    folder = config.submissions_dir / competition.name
    how = {"device": compute.device.type, "precision": str(compute.dtype), "compile": config.compile}
    note = {"views": views, "predicted": how | {"batch_size": config.batch_size}, "runs": facts}
    path = write_submission(folder, name, mean, competition, prepared, note)
    print(f"validated against the sample submission: {path}")


if __name__ == "__main__":
    cli.run(main, PredictConfig, __doc__)
