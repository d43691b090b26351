"""report.html: one file with all that is known of a run, made of the templates in src/pages/."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from src.core.progress import minutes
from src.inference.ensemble import OutOfFold
from src.pages.page import bar_chart, line_chart, render, scatter_chart
from src.report import scores as counting
from src.report.calibration import accuracy_by_share, calibration, confidences, shares_at
from src.report.curves import command_of, fold_rows, learning_curves, settings
from src.report.gallery import Gallery
from src.report.train_and_test import Comparison, histogram_edges
from src.runs.fold import TrainedFold
from src.runs.run import Run

MAX_MATRIX_CLASSES = 40  # classes of a matrix that is drawn
MAX_PAIRS = 24  # of classes that are confused
MAX_SUSPECTS = 200  # shown; all are in suspects.csv
GOOD_SHARE = 0.75  # of right answers, below which most suspected labels are the network's mistakes
MAX_PROBLEMS = 200  # rows of problems.csv shown
MAX_BARS = 15  # of a chart; more are a table
MAX_POINTS = 2000  # of a scatter chart
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


def table_of(frame: pd.DataFrame, digits: int = 4) -> dict[str, Any]:
    """Return a table for the template: its header, each with whether it is a number, and its rows as texts."""
    numeric = [all(isinstance(value, int | float) for value in frame[name].tolist()) for name in frame.columns]
    rows = [[_text(value, digits) for value in row] for row in frame.astype(object).to_numpy().tolist()]
    return {"head": list(zip([str(name).replace("_", " ") for name in frame.columns], numeric, strict=True)), "rows": rows}


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "undefined"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)


def page_budget(report: Report) -> int:
    """Return the bytes that thumbnails may take, so that the page stays below BYTES: paths and texts need the rest."""
    count = min(len(report.oof.labels), 10_000)
    paths = report.oof.labels["image_path"].head(count).str.len().sum()
    rest = 420_000 + int(paths) + 45 * count  # scripts, styles, tables; and numbers of each image
    return max(200_000, int((BYTES - rest) * 3 / 4 / 1.25))  # base64; an eighth more for those that are explained


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
        parts=_parts(report),
        matrices=_matrices(report.oof),
        confidence=_confidence(report.oof),
        comparison=_comparison(report.comparison),
        problems=_problems(report.run),
        relabelled=_relabelled(report.run),
        settings=settings(report.run),
        command=command_of(report.run),
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


def _parts(report: Report) -> list[dict[str, Any]]:
    """Return the tables of where the run errs, with a title and a note each."""
    found = []
    for name, frame in report.tables.items():
        kind = name.removeprefix("by_")
        base = "class" if kind.startswith("class") else kind
        shown, note = counting.for_readers(base, frame)
        if note and base != kind:
            note = note.replace(f"by_{base}.csv", f"{name}.csv")
        if kind == "group" and len(shown) > counting.MAX_ROWS:
            shown, note = shown.head(counting.MAX_ROWS), f"The {counting.MAX_ROWS} with the largest loss."
        title = f"By class: {kind.removeprefix('class_')}" if kind.startswith("class_") else f"By {kind}"
        if kind == "class" and report.oof.competition.is_string:
            title = "By character"
        if kind != "head":  # shown beside the score
            found.append({"title": title, "note": note, "table": table_of(shown)})
    return found


def _matrices(oof: OutOfFold) -> list[dict[str, Any]]:
    """Return the confusion matrix of each head, if it is small enough to be drawn, and the most confused pairs."""
    found = []
    for head, (names, counts) in counting.confusions(oof).items():
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        pairs = counting.most_confused(names, counts, MAX_PAIRS)
        rows = None
        if len(names) <= MAX_MATRIX_CLASSES:
            rows = [
                (name, [(int(count), round(float(share) ** 0.6, 2)) for count, share in zip(*both, strict=True)])
                for name, both in zip(names, zip(counts.tolist(), shares.tolist(), strict=True), strict=True)
            ]
        found.append({"head": "" if head == "all" else head, "names": names, "rows": rows, "pairs": pairs})
    return found


def _confidence(oof: OutOfFold) -> dict[str, Any]:
    """Return charts of how far probabilities can be trusted; of numbers, of truth and answer."""
    if "number" in oof.competition.layout.kinds:
        return {"charts": _numbers(oof), "error": None, "what": "", "goals": None}
    reliability = calibration(oof)
    assert reliability is not None
    bins, confidence = reliability.bins, confidences(oof)
    shares, accuracy = accuracy_by_share(confidence, oof.right)
    names = [f"{low:.0%}" for low in bins["bin"] / 15]
    charts = [
        line_chart(
            "Reliability: how often it is right at each confidence", "confidence", "share that is right",
            {"this run": (bins["confidence"], bins["right"])}, points=True, diagonal=True, xrange=[0, 1], yrange=[0, 1],
        ),
        bar_chart("How often each confidence occurs", "confidence from", "answers", names, {"answers": bins["images"]}),
        line_chart(
            "Accuracy, if only the most confident share is answered", "share answered", "accuracy",
            {"this run": (shares, accuracy)}, xrange=[0, 1],
        ),
    ]  # fmt: skip
    rows = [(f"{goal:.0%}", f"{share:.1%}") for goal, share in shares_at(confidence, oof.right)]
    goals = table_of(pd.DataFrame(rows, columns=["to be right", "answer the most confident"])) if rows else None
    return {"charts": charts, "error": reliability.error, "what": reliability.what, "goals": goals}


def _numbers(oof: OutOfFold) -> list[dict[str, Any]]:
    """Return for each number a chart of answer against truth, and of how errors are spread."""
    charts, layout = [], oof.competition.layout
    rows = np.random.default_rng(0).permutation(len(oof.target))[:MAX_POINTS]
    parts = zip(oof.competition.heads, layout.split_targets(oof.target), layout.split_targets(oof.answers), strict=True)
    for head, target, answer in parts:
        if head.kind != "number":
            continue
        low, high = float(min(target.min(), answer.min())), float(max(target.max(), answer.max()))
        series = {"images": (target[rows, 0], answer[rows, 0])}
        charts.append(scatter_chart(f"{head.name}: answer and truth", "truth", "answer", series,
                                    xrange=[low, high], yrange=[low, high]))  # fmt: skip
        errors = (answer - target)[:, 0].astype(np.float64)
        edges = histogram_edges([errors])
        counts = np.histogram(np.clip(errors, edges[0], edges[-1]), edges)[0]
        names = [f"{edge:.3g}" for edge in edges[:-1]]
        charts.append(bar_chart(f"{head.name}: errors (answer less truth)", "from", "images", names, {"images": counts}))
    return charts


def _comparison(comparison: Comparison) -> dict[str, Any]:
    """Return train and test compared: a table, histograms, and what is answered."""
    charts: list[dict[str, Any]] = []
    sizes = [comparison.measures.get(f"{side} in pixels") for side in ("width", "height")]
    if sizes[0] and sizes[1]:
        series = {part: (sizes[0][place], sizes[1][place]) for place, part in enumerate(("train", "test"))}
        charts.append(scatter_chart("Sizes of some images", "width", "height", series))
    for name in ("brightness in %", "contrast in %"):
        if name in comparison.measures:
            edges = histogram_edges(comparison.measures[name])
            middles = (edges[:-1] + edges[1:]) / 2
            series = {
                part: (middles, np.histogram(values, edges)[0] / len(values))
                for part, values in zip(("train", "test"), comparison.measures[name], strict=True)
            }
            charts.append(line_chart(name.capitalize(), name, "share of images", series))
    tables = []
    for name, frame in comparison.answers.items():
        series = {column: frame[column] for column in frame.columns[1:]}
        if len(frame) <= MAX_BARS or frame["name"].str.match(r"^-?[\d.e+-]+$").all():
            long = frame["name"].str.len().max() > 8
            charts.append(bar_chart(f"Shares by {name}", "" if long else name, "share" * (not long),
                                    frame["name"].tolist(), series, horizontal=bool(long)))  # fmt: skip
        else:
            gap = (frame.iloc[:, -1] - frame.iloc[:, 1]).abs()
            order = gap.sort_values(ascending=False, kind="stable").index[: counting.MAX_ROWS]
            tables.append({"title": f"Shares by {name}, the most different first", "table": table_of(frame.loc[order])})
    table = table_of(comparison.table(), digits=2) if comparison.measures else None
    return {"table": table, "charts": charts, "tables": tables, "notes": comparison.notes}


def _problems(run: Run) -> dict[str, Any]:
    """Return what prepare found wrong with images. Raises InputError if problems.csv is damaged."""
    problems = run.prepared.problems
    counts = Counter(zip(problems["split"], problems["problem"], problems["action"], strict=True)).most_common()
    summary = pd.DataFrame([(*key, count) for key, count in counts], columns=["split", "problem", "action", "images"])
    rows = problems.head(MAX_PROBLEMS).to_dict("records")
    return {"summary": table_of(summary), "rows": rows, "total": len(problems), "folder": str(run.prepared.folder)}


def _relabelled(run: Run) -> str:
    """Return what was done with --relabel before this run, or nothing."""
    record = run.prepared.snapshot.relabelled
    if record is None:
        return ""
    by = ", ".join(name or "someone" for name in record.by)
    return f"{record.num_changed:,} labels of this snapshot were changed and {record.num_confirmed:,} confirmed by {by}."


def _suspects(report: Report) -> dict[str, Any]:
    share = float(report.oof.right.mean())
    weak = share < GOOD_SHARE and "number" not in report.oof.competition.layout.kinds
    total = len(report.suspects)
    return {"shown": min(MAX_SUSPECTS, total), "total": total, "share_right": share, "weak": weak}


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
        classes = list(competition.class_names or head.classes)
    lengths = list(range(1, len(competition.heads) + 1)) if competition.pad_class is not None else []
    heads = [] if one else [
        f"position {number + 1}" if competition.is_string else each.name for number, each in enumerate(competition.heads)
    ][:31]  # fmt: skip
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
        "word": "read as" if competition.is_string else "answered",
        "labels": {
            "heads": heads if not competition.is_string else heads[:1],
            "names": list(competition.class_names) if len(competition.heads) == 1 else [],
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
