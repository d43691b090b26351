"""Write which part of each image holds its string, as a run that learned the boxes predicts: for `prepare --crops`.

    python -m src.prepare --competition svhn:boxes                (the boxes of svhn's digits as an answer)
    python -m src.train --competition svhn:boxes --weights weights/tf_efficientnet_lite0.safetensors
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
    from src.core.csv_text import parse_csv
    from src.core.errors import InputError
    from src.core.writing import write_csv
    from src.data.crops import widened
    from src.inference.ensemble import out_of_fold
    from src.runs.run import open_run

    check_range("margin", config.margin, 0, 10)
    run = open_run(config, config.run_name)
    if run.competition.heads != HEADS:
        raise InputError(f"--competition {config.competition}: does not answer with boxes; give NAME:boxes")
    oof = out_of_fold(run)
    made = config.submissions_dir / run.competition.name / f"{config.run_name}.csv"
    if not made.is_file():
        raise InputError(f"{made}: not there; run {run.command('predict')} first")
    answered = parse_csv(made.read_bytes(), str(made)).set_index(run.competition.columns[0])
    test = run.prepared.test.drop_duplicates("image_path")
    if not test["id"].isin(answered.index).all():
        raise InputError(f"{made}: does not answer all test images; run {run.command('predict')} again")
    boxes = np.concatenate([oof.answers, answered.loc[test["id"], list(SIDES)].to_numpy(np.float64)])
    paths = [*oof.labels["image_path"], *test["image_path"]]
    sides = widened(boxes, config.margin).round(4)
    out = config.out or run.folder / "crops.csv"
    write_csv(out, pd.DataFrame({"image_path": paths, **dict(zip(SIDES, sides.T, strict=True))}))
    area = float((sides[:, 2:] - sides[:, :2]).prod(axis=1).mean())
    print(f"{out}: {len(paths):,} images; {area:.0%} of an image's area is kept on average")
    print(f"overlap with the true boxes {oof.score:.3f}, before the margin of {config.margin:g} on each side")


if __name__ == "__main__":
    cli.run(main, CropsConfig, __doc__)
