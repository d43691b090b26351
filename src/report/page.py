"""report.html: one file with all that is known of a run, made of the templates in src/pages/."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.competitions.spec import Competition
from src.core.progress import minutes
from src.inference.ensemble import OutOfFold
from src.pages.page import render
from src.report.curves import command_of, fold_rows, learning_curves, settings
from src.report.gallery import TEXT_BYTES, Gallery
from src.report.sections import comparison_of, confidence_of, matrices, problems_of, table_of, where_it_errs
from src.report.train_and_test import Comparison
from src.runs.fold import TrainedFold
from src.runs.run import Run

MAX_SUSPECTS = 200  # shown; all are in suspects.csv
GOOD_SHARE = 0.75  # of right answers, below which most suspected labels are the network's mistakes
BYTES = 4_850_000  # of the page, without which thumbnails become smaller


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows."""

    run: Run
    folds: Sequence[TrainedFold]
    oof: OutOfFold
    scores: dict[str, Any]  # as scores.json holds them
    tables: dict[str, pd.DataFrame]  # see `scores.tables`
    suspects: pd.DataFrame
    comparison: Comparison


def page_budget(report: Report) -> int:
    """Return the bytes that thumbnails may take, so that the page stays below BYTES: paths and texts need the rest."""
    count = min(len(report.oof.labels), 10_000)
    paths = report.oof.labels["image_path"].head(count).str.len().sum()
    rest = 420_000 + int(paths) + 45 * count  # scripts, styles, tables; and numbers of each image
    if "number" in report.oof.competition.layout.kinds:
        rest += TEXT_BYTES  # of answers that all differ
    return max(200_000, int((BYTES - rest) * 3 / 4 / 1.14))  # base64; an eighth more for those that are explained


def report_page(report: Report, gallery: Gallery) -> str:
    """Return the page."""
    charts, notes = learning_curves(report.folds, report.scores["score_name"])
    competition = report.oof.competition
    return render(
        "report.html",
        title=f"{competition.name} · {report.run.name}",
        scores=report.scores,
        facts=_facts(report),
        folds=table_of(pd.DataFrame(fold_rows(report.folds, report.scores["folds"]))),
        heads=None if competition.is_string else _heads(report.scores),
        curves=charts,
        curve_notes=notes,
        parts=where_it_errs(report.tables, competition.is_string),
        matrices=matrices(report.oof),
        confidence=confidence_of(report.oof),
        comparison=comparison_of(report.comparison),
        problems=problems_of(report.run),
        relabelled=_relabelled(report.run),
        settings=settings(report.run),
        command=command_of(report.run, report.folds[0].number),
        prepare=report.run.prepared.command(),
        versions=report.folds[0].record.versions,
        suspects=_suspects(report),
        gallery=gallery,
        filters=_filters(report.oof),
        data=_data(report, gallery),
    )


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return what stands below the score."""
    scores, model = report.scores, report.run.begun.model
    spread = scores["std_over_folds"]
    found = [("images", f"{scores['num_images']:,}"), ("network", model.backbone)]
    found.append(("image size", f"{model.image_size[0]} × {model.image_size[1]}"))
    if spread is not None:
        found.append(("mean over folds", f"{scores['mean_over_folds']:.4f} ± {spread:.4f}"))
    found.append(("trained", minutes(sum(fold.result.seconds for fold in report.folds))))
    if scores["views"]:
        found.append(("views", ", ".join(scores["views"])))
    return found


def _heads(scores: dict[str, Any]) -> dict[str, Any] | None:
    names = list(scores["heads"])
    if len(names) < 2:
        return None
    values = {"head": names, "measure": list(scores["measures"].values()), "value": list(scores["heads"].values())}
    return table_of(pd.DataFrame(values))


def _relabelled(run: Run) -> str:
    """Return what was done with --relabel before this run, or nothing."""
    record = run.prepared.snapshot.relabelled
    if record is None:
        return ""
    by = ", ".join(name or "someone" for name in record.by)
    return (
        f"{record.num_changed:,} labels of this snapshot were changed and {record.num_confirmed:,} confirmed by {by}."
    )


def _suspects(report: Report) -> dict[str, Any]:
    share = float(report.oof.right.mean())
    weak = share < GOOD_SHARE and "number" not in report.oof.competition.layout.kinds
    total = len(report.suspects)
    return {"shown": min(MAX_SUSPECTS, total), "total": total, "share_right": share, "weak": weak}


def _names(competition: Competition) -> list[str]:
    """Return the names of the classes for people, if each answer is one of them."""
    of_classes = len(competition.heads) == 1 and competition.heads[0].kind != "labels"
    return list(competition.class_names) if of_classes else []


def _filters(oof: OutOfFold) -> dict[str, Any]:
    """Return what the gallery can be filtered by."""
    competition = oof.competition
    head, one = competition.heads[0], len(competition.heads) == 1
    match, classes = "", []
    if competition.is_string:
        match = "contains"
        classes = [text for number, text in enumerate(head.classes) if number != competition.pad_class and text]
    elif one and head.kind != "number":
        match = "list" if head.kind == "labels" else "equal"
        classes = _names(competition) or list(head.classes)
    lengths = list(range(1, len(competition.heads) + 1)) if competition.pad_class is not None else []
    names = [f"position {place + 1}" for place in range(len(competition.heads))]
    heads = [] if one else (names if competition.is_string else [each.name for each in competition.heads])[:31]
    folds = sorted(set(oof.labels["fold"].astype(int)))
    numbers = "number" in competition.layout.kinds
    return {"match": match, "classes": classes, "lengths": lengths, "heads": heads, "folds": folds, "numbers": numbers}


def _data(report: Report, gallery: Gallery) -> dict[str, Any]:
    """Return what the page's scripts read."""
    competition = report.oof.competition
    heads = [{"name": head.name, "kind": head.kind, "classes": list(head.classes)} for head in competition.heads]
    texts = report.suspects["probability_of_label"].head(MAX_SUSPECTS).tolist()
    return {
        "run": report.run.id,
        "competition": competition.name,
        "images": gallery.columns,
        "match": _filters(report.oof)["match"],
        "numbers": "number" in competition.layout.kinds,
        "word": "read as" if competition.is_string else "answered as",
        "labels": {
            "heads": heads if not competition.is_string else heads[:1],
            "names": _names(competition),
            "string": competition.is_string,
            "places": len(competition.heads),
            "pad": competition.pad_class,
            "separator": competition.separator,
        },
        "of_label": texts,
        "sheets": {
            kind: sheets.layout
            for kind, sheets in (("small", gallery.sheets), ("large", gallery.large), ("map", gallery.maps))
            if sheets
        },
    }
