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
from src.report.gallery import MAX_SUSPECTS, Gallery, empty_gallery, make_gallery
from src.report.sections import comparison_of, confidence_of, matrices, problems_of, table_of, where_it_errs
from src.report.suspects import suspects_are_weak
from src.report.train_and_test import Comparison
from src.runs.fold import TrainedFold
from src.runs.run import Run

BYTES = 4_900_000  # of the page: its images have what the rest leaves
MIN_GALLERY = 100_000  # bytes that the images have in any case
MAX_CLASS_BYTES = 1_000_000  # of class names, beyond which the page neither filters by them nor checks labels


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


def report_page(report: Report, num_saliency: int) -> tuple[str, Gallery]:
    """Return the page and its gallery, of whose images at most `num_saliency` have saliency.

    Raises InputError if the cache or problems.csv is damaged.
    """
    values = _values(report)
    bare = _rendered(report, values, empty_gallery(report.oof))
    room = max(MIN_GALLERY, BYTES - len(bare.encode()))
    gallery = make_gallery(report.run, report.folds, report.oof, report.suspects, num_saliency, room)
    return _rendered(report, values, gallery), gallery


def _rendered(report: Report, values: dict[str, Any], gallery: Gallery) -> str:
    return render(
        "report.html",
        **values,
        gallery=gallery,
        suspects=_suspects(report, gallery),
        data=_data(report, gallery, values["filters"]),
    )


def _values(report: Report) -> dict[str, Any]:
    """Return what the template shows, but for the gallery."""
    charts, notes = learning_curves(report.folds, report.scores["score_name"])
    competition = report.oof.competition
    return {
        "title": f"{competition.name} · {report.run.name}",
        "scores": report.scores,
        "facts": _facts(report),
        "folds": table_of(pd.DataFrame(fold_rows(report.folds, report.scores))),
        "heads": None if competition.is_string else _heads(report.scores),
        "curves": charts,
        "curve_notes": notes,
        "parts": where_it_errs(report.tables, competition.is_string),
        "matrices": matrices(report.oof),
        "confidence": confidence_of(report.oof),
        "comparison": comparison_of(report.comparison),
        "problems": problems_of(report.run),
        "relabelled": _relabelled(report.run),
        "settings": settings(report.run),
        "command": command_of(report.run, report.folds[0].number),
        "prepare": report.run.prepared.command(),
        "versions": report.folds[0].record.versions,
        "filters": _filters(report.oof),
    }


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return what stands below the score."""
    scores, model = report.scores, report.run.started_record.model
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


def _suspects(report: Report, gallery: Gallery) -> dict[str, Any]:
    share = float(report.oof.right.mean())
    weak = suspects_are_weak(report.oof)
    shown = sum(rank < MAX_SUSPECTS for _, rank in gallery.columns["suspect"])
    return {"shown": shown, "total": len(report.suspects), "share_right": share, "weak": weak}


def _names(competition: Competition) -> list[str]:
    """Return the names of the classes for people, if each answer is one of them."""
    of_classes = len(competition.heads) == 1 and competition.heads[0].kind != "labels"
    return list(competition.class_names) if of_classes else []


def _can_list_classes(competition: Competition) -> bool:
    """Return whether the names of all classes fit into the page."""
    heads = competition.heads[:1] if competition.is_string else competition.heads
    texts = (*competition.class_names, *(text for head in heads for text in head.classes))
    return sum(len(text.encode()) + 3 for text in texts) <= MAX_CLASS_BYTES  # quotes and a comma


def _filters(oof: OutOfFold) -> dict[str, Any]:
    """Return what the gallery can be filtered by."""
    competition = oof.competition
    head, one = competition.heads[0], len(competition.heads) == 1
    match = ""
    if competition.is_string:
        match = "contains"
    elif one and head.kind != "number":
        match = "list" if head.kind == "labels" else "equal"
    by_class = bool(match) and _can_list_classes(competition)
    lengths = list(range(1, len(competition.heads) + 1)) if competition.pad_class is not None else []
    names = [f"position {number}" for number in range(1, len(competition.heads) + 1)]
    heads = [] if one else (names if competition.is_string else [each.name for each in competition.heads])[:31]
    folds = sorted(set(oof.labels["fold"].astype(int)))
    numbers = "number" in competition.layout.kinds
    return {
        "match": match, "by_class": by_class, "lengths": lengths, "heads": heads, "folds": folds, "numbers": numbers,
    }  # fmt: skip


def _data(report: Report, gallery: Gallery, filters: dict[str, Any]) -> dict[str, Any]:
    """Return what the page's scripts read."""
    competition = report.oof.competition
    listed = _can_list_classes(competition)
    heads = [
        {"name": head.name, "kind": head.kind, "classes": list(head.classes) if listed else None}
        for head in (competition.heads[:1] if competition.is_string else competition.heads)
    ]
    return {
        "run": report.run.id,
        "competition": competition.name,
        "images": gallery.columns,
        "match": filters["match"],
        "numbers": filters["numbers"],
        "word": "read as" if competition.is_string else "answered as",
        "labels": {
            "heads": heads,
            "names": _names(competition) if listed else [],
            "string": competition.is_string,
            "positions": len(competition.heads),
            "pad": competition.pad_class,
            "separator": competition.separator,
        },
        "of_label": report.suspects["probability_of_label"].head(MAX_SUSPECTS).tolist(),
        "sheets": {
            kind: sheets.layout
            for kind, sheets in (("small", gallery.sheets), ("large", gallery.large), ("map", gallery.maps))
            if sheets
        },
    }
