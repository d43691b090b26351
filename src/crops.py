"""Write which part of each image holds its string, as a run that learned the boxes predicts: for `prepare --crops`.

    python -m src.prepare --competition svhn:boxes                (the boxes of svhn's digits as an answer)
    python -m src.train --competition svhn:boxes
    python -m src.predict --competition svhn:boxes
    python -m src.crops
    python -m src.prepare --competition svhn --crops runs/svhn_boxes/baseline/crops.csv

Each training image's box comes from the fold that did not see it, a test image's from all folds.
"""

from src.config import CropsConfig
from src.core import cli
from src.core.flags import check_range


def main(config: CropsConfig) -> None:
    """Write crops.csv. Raises InputError for another competition, missing folds, and without predict's answers."""
    import numpy as np
    import pandas as pd

    from src.competitions.boxes import HEADS, SIDES
    from src.competitions.decision import decide
    from src.core.errors import InputError
    from src.core.writing import write_csv
    from src.data.crops import widened
    from src.inference.answered import answered_by
    from src.inference.ensemble import out_of_fold
    from src.runs.run import open_run

    check_range("margin", config.margin, 0, 10)
    run = open_run(config, config.run_name)
    if run.competition.heads != HEADS:
        raise InputError(f"--competition {config.competition}: does not answer with boxes; give NAME:boxes")
    oof, total = out_of_fold(run), len(run.prepared.labels)
    if len(oof.labels) < total:
        raise InputError(
            f"{run.folder}: answers {len(oof.labels):,} of {total:,} training images out of fold, and the others would "
            f"stay whole; prepare {config.competition} with folds over all of them (--split kfold), and train again"
        )
    test_paths, predicted = answered_by(run, config.submissions_dir)
    boxes = np.concatenate([oof.answers, decide(predicted, run.competition)])
    paths = [*oof.labels["image_path"], *test_paths]
    sides = widened(boxes, config.margin).round(4)
    out = config.out or run.paths.crops
    write_csv(out, pd.DataFrame({"image_path": paths, **dict(zip(SIDES, sides.T, strict=True))}))
    area = float((sides[:, 2:] - sides[:, :2]).prod(axis=1).mean())
    print(f"{out}: {len(paths):,} images; {area:.0%} of an image's area is kept on average")
    print(f"overlap with the true boxes {oof.score:.3f}, before the margin of {config.margin:g} on each side")


if __name__ == "__main__":
    cli.run(main, CropsConfig, __doc__)
