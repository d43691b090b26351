"""Join all folds' out-of-fold predictions and say how good the run is, and where it errs.

    python -m src.evaluate
    python -m src.evaluate --competition demo --folds 0      (seconds on a CPU)

Writes runs/<competition>/<run>/evaluation/: scores.json, report.html, worst.csv, confusion.csv, and by_length.csv,
by_class.csv or by_head.csv.
"""

from typing import Any

import pandas as pd

from src.config import EvaluateConfig, check_range
from src.core import cli
from src.core.writing import write_csv, write_json, write_text
from src.data.cache import open_cache
from src.data.labels import open_competition
from src.inference.ensemble import out_of_fold
from src.report import scores as counting
from src.report.page import render

NUM_WORST_IMAGES = 48  # mistakes shown in report.html


def main(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run and return what scores.json holds. Raises InputError for folds that are incomplete or overlap."""
    competition, prepared = open_competition(config.competition, config.runs_dir)
    check_range("num-bootstrap", config.num_bootstrap, 1)
    check_range("num-worst", config.num_worst, 0)
    run_dir = config.runs_dir / competition.name / config.run_name
    oof = out_of_fold(run_dir, prepared, competition, config.folds, config.tta)
    scores = counting.summary(oof, competition, config.num_bootstrap)
    kind = "length" if competition.pad_class is not None else "class" if len(competition.heads) == 1 else "head"
    parts = {"length": counting.by_length, "class": counting.by_class, "head": counting.by_head}[kind](oof, competition)
    matrices = counting.confusions(oof, competition)
    worst = counting.mistakes(oof, competition, config.num_worst)
    folder = run_dir / "evaluation"
    write_json(folder / "scores.json", {**scores, "tta": config.tta})
    write_csv(folder / f"by_{kind}.csv", parts)
    for head, (names, counts) in matrices.items():
        file = "confusion.csv" if head == "all" else f"confusion_{head}.csv"
        write_csv(folder / file, pd.DataFrame(counts, columns=names).assign(true=names))
    write_csv(folder / "worst.csv", worst)
    cache = open_cache(prepared, "train")
    shown = worst.head(NUM_WORST_IMAGES)
    images = cache.images[cache.rows_of(shown["image_path"].tolist())] if len(shown) else cache.images[:0]
    write_text(folder / "report.html", render(scores, config.run_name, parts, matrices, shown, images))
    _show(scores, parts)
    print(f"report: {folder / 'report.html'}")
    return scores


def _show(scores: dict[str, Any], parts: pd.DataFrame) -> None:
    low, high = scores["interval_95"]
    print(f"out-of-fold {scores['score_name']}: {scores['score']:.4f} on {scores['num_images']:,} images")
    print(f"95% bootstrap interval: {low:.4f} to {high:.4f}")
    spread = scores["std_over_folds"]
    folds = ", ".join(f"{fold}: {score:.4f}" for fold, score in scores["folds"].items())
    mean = f"; mean {scores['mean_over_folds']:.4f} ± {spread:.4f} (standard deviation)" if spread is not None else ""
    print(f"folds {folds}{mean}")
    print("heads " + ", ".join(f"{head}: {score:.4f}" for head, score in scores["heads"].items()))
    print(parts.to_string(index=False, float_format="{:.4f}".format))
    if not scores["complete"]:
        print("note: not all folds are in; this is the score of part of the data")
    if scores["optimistic"]:
        print("note: the epoch was chosen on these very images; the score is optimistic")


if __name__ == "__main__":
    cli.run(main, EvaluateConfig, __doc__)
