"""Join all folds' out-of-fold predictions and say how good the run is, and where it errs.

    python -m src.evaluate
    python -m src.evaluate --competition demo --folds 0      (seconds on a CPU)

Writes runs/<competition>/<run>/evaluation/: scores.json, report.html, worst.csv, suspects.csv (labels that are probably
wrong), confusion.csv, and tables by length, position, class, label, head or group.
"""

from typing import TYPE_CHECKING, Any

from src.config import EvaluateConfig
from src.core import cli
from src.core.flags import check_range

if TYPE_CHECKING:
    import pandas as pd


def main(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run and return what scores.json holds. Raises InputError for folds that are incomplete or overlap."""

    from src.core.locking import locked
    from src.core.writing import write_csv, write_json, write_text
    from src.inference.ensemble import out_of_fold
    from src.report import scores as counting
    from src.report.page import Report, report_page
    from src.report.suspects import suspects, suspects_are_weak
    from src.report.train_and_test import compare
    from src.runs.run import open_run

    check_range("num-worst", config.num_worst, 0)
    check_range("num-saliency", config.num_saliency, 0, 500)  # more would not fit into the page
    run = open_run(config, config.run_name)
    oof = out_of_fold(run, config.folds, config.tta)
    scores = {**counting.summary(oof), "tta": config.tta, "run_id": run.id, "snapshot": run.prepared.id}
    kind, parts = counting.breakdown(oof)
    folds = run.trained(config.folds)
    report = Report(
        run=run,
        folds=folds,
        oof=oof,
        scores=scores,
        tables=counting.tables(oof),
        suspects=suspects(oof),
        comparison=compare(run, folds, oof),
    )
    run.prepared.cache("train")  # the page needs it: fail before anything is written
    with locked(run.paths.evaluation, "is evaluating this run", wait=True):
        write_json(run.paths.scores, scores)
        for name, table in report.tables.items():
            write_csv(run.paths.evaluation / f"{name}.csv", table, for_people=True)
        for head, (names, counts) in counting.confusions(oof).items():
            file = "confusion.csv" if head == "all" else f"confusion_{head}.csv"
            matrix = counting.matrix_table(names, counts)
            write_csv(run.paths.evaluation / file, matrix, for_people=True)
        write_csv(run.paths.evaluation / "worst.csv", counting.mistakes(oof, config.num_worst), for_people=True)
        suspects_file = run.paths.evaluation / "suspects.csv"
        write_csv(suspects_file, report.suspects, for_people=True)
        _show(scores, *counting.for_readers(kind, parts))
        page, gallery = report_page(report, config.num_saliency)  # last: the scores are there whatever happens to it
        write_text(run.paths.report, page)
    if len(report.suspects):
        weak = "; few answers are right, so most of these labels will be right too" if suspects_are_weak(oof) else ""
        print(f"{len(report.suspects):,} labels are suspicious: see the report, or {suspects_file}{weak}")
    if gallery.note:
        count = len(gallery.columns["explained"]) if gallery.maps else 0
        shown = f"shows what the network looked at for only {count} images"
        shown = shown if count else "does not show what the network looked at"
        print(f"note: the report {shown}: {gallery.note}")
    if note := run.prepared.unreadable_note():
        print(note)
    print(f"report: {run.paths.report}")
    return scores


def _show(scores: dict[str, Any], parts: "pd.DataFrame", note: str) -> None:
    low, high = scores["interval_95"]
    if scores["score"] is None:
        print(f"out-of-fold {scores['score_name']}: not defined for these {scores['num_images']:,} images")
    else:
        which = "" if scores["greater_is_better"] else " (less is better)"
        print(f"out-of-fold {scores['score_name']}: {scores['score']:.4f} on {scores['num_images']:,} images{which}")
        if low is not None:
            print(f"95% interval ({scores['interval_by']}): {low:.4f} to {high:.4f}")
    if scores["views"]:
        print(f"views: {', '.join(scores['views'])}")
    if scores["rule"]:
        plain = "undefined" if scores["plain_score"] is None else f"{scores['plain_score']:.4f}"
        print(f"with fitted thresholds, cross-validated over groups; {plain} without them")
    spread = scores["std_over_folds"]
    folds = ", ".join(
        f"{fold}: {'undefined' if score is None else f'{score:.4f}'}" for fold, score in scores["folds"].items()
    )
    mean = f"; mean {scores['mean_over_folds']:.4f} ± {spread:.4f} (standard deviation)" if spread is not None else ""
    print(f"folds {folds}{mean}")
    if None in scores["folds"].values():
        print("note: the mean skips undefined folds, which have too few classes for this metric")
    measures = {head: "" if name == "accuracy" else f" ({name})" for head, name in scores["measures"].items()}
    print("heads " + ", ".join(f"{head}: {score:.4f}{measures[head]}" for head, score in scores["heads"].items()))
    print(parts.to_string(index=False, float_format="{:.4f}".format))
    if note:
        print(f"({note})")
    if not scores["complete"]:
        print("note: not all folds are included; this is the score of part of the data")
    if scores["optimistic"]:
        print("note: the epoch was chosen on these very images; the score is optimistic")


if __name__ == "__main__":
    cli.run(main, EvaluateConfig, __doc__)
