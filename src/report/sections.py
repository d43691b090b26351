"""The parts of report.html that hold tables and charts, as values for the template."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from src.inference.ensemble import OutOfFold
from src.pages.page import bar_chart, line_chart, scatter_chart
from src.report import scores as counting
from src.report.calibration import NUM_BINS, accuracy_by_share, calibration, confidences, shares_at
from src.report.train_and_test import Comparison, histogram_edges
from src.runs.run import Run

MAX_MATRIX_CLASSES = 40  # classes of a matrix that is drawn
MAX_CELLS = 12_000  # of all matrices that are drawn
DARKEST = 0.55  # opacity of a matrix's cell that holds a whole row: its number must be readable
MAX_PAIRS = 24  # of classes that are confused
MAX_PROBLEMS = 200  # rows of problems.csv shown
MAX_BARS = 15  # of a chart; more are a table
MAX_POINTS = 2000  # of a scatter chart


def table_of(frame: pd.DataFrame, digits: int = 4) -> dict[str, Any]:
    """Return a table for the template: its header, each with whether it is a number, and its rows as texts."""
    numeric = [all(isinstance(value, int | float) for value in frame[name].tolist()) for name in frame.columns]
    rows = [[_text(value, digits) for value in row] for row in frame.astype(object).to_numpy().tolist()]
    return {
        "head": list(zip([str(name).replace("_", " ") for name in frame.columns], numeric, strict=True)),
        "rows": rows,
    }


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "undefined"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)


def where_it_errs(tables: dict[str, pd.DataFrame], is_string: bool) -> list[dict[str, Any]]:
    """Return the tables of where the run errs, with a title and a note each."""
    found = []
    for name, frame in tables.items():
        kind = name.removeprefix("by_")
        base, _, head = kind.partition("_") if kind.startswith(("class_", "value_")) else (kind, "", "")
        shown, note = counting.for_readers(base, frame)
        note = note.replace(f"by_{base}.csv", f"{name}.csv")
        if kind == "group" and len(shown) > counting.MAX_ROWS:
            shown, note = shown.head(counting.MAX_ROWS), f"The {counting.MAX_ROWS} with the largest loss."
        title = "By character" if kind == "class" and is_string else f"By {base}{f': {head}' if head else ''}"
        if kind != "head":  # shown beside the score
            found.append({"title": title, "note": note, "table": table_of(shown)})
    return found


def matrices(oof: OutOfFold) -> list[dict[str, Any]]:
    """Return the confusion matrix of each head, if it is small enough to be drawn, and the most confused pairs."""
    found, room = [], MAX_CELLS
    for head, (names, counts) in counting.confusions(oof).items():
        shades = DARKEST * (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** 0.6
        pairs = counting.most_confused(names, counts, MAX_PAIRS)
        rows = None
        if len(names) <= MAX_MATRIX_CLASSES and counts.size <= room:
            room -= counts.size
            rows = [
                (name, list(zip(*both, strict=True)))
                for name, both in zip(names, zip(counts.tolist(), shades.round(2).tolist(), strict=True), strict=True)
            ]
        title, file = ("", "confusion.csv") if head == "all" else (head, f"confusion_{head}.csv")
        found.append({"head": title, "file": file, "names": names, "rows": rows, "pairs": pairs})
    return found


def confidence_of(oof: OutOfFold) -> dict[str, Any]:
    """Return charts of how far probabilities can be trusted; of numbers, of truth and answer."""
    if "number" in oof.competition.layout.kinds:
        return {"charts": _numbers(oof), "error": None, "what": "", "goals": None}
    reliability = calibration(oof)
    assert reliability is not None
    bins, confidence = reliability.bins, confidences(oof)
    shares, accuracy = accuracy_by_share(confidence, oof.right)
    names = [f"{low:.0%}" for low in bins["bin"] / NUM_BINS]
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
    rows = [
        (f"{goal:.0%}", f"{share:.1%}" if share else "none is sure enough")
        for goal, share in shares_at(confidence, oof.right)
    ]
    goals = table_of(pd.DataFrame(rows, columns=["to be right", "answer the most confident"])) if rows else None
    return {"charts": charts, "error": reliability.error, "what": reliability.what, "goals": goals}


def _numbers(oof: OutOfFold) -> list[dict[str, Any]]:
    """Return for each number a chart of answer against truth, and of how errors are spread."""
    charts, layout = [], oof.competition.layout
    most = MAX_POINTS // max(1, len(oof.competition.heads) // 5)  # many charts: fewer points in each
    rows = np.random.default_rng(0).permutation(len(oof.target))[:most]
    parts = zip(oof.competition.heads, layout.split_targets(oof.target), layout.split_targets(oof.answers), strict=True)
    for head, target, answer in parts:
        if head.kind != "number":
            continue
        low, high = float(min(target.min(), answer.min())), float(max(target.max(), answer.max()))
        truths, answers = ([float(f"{value:.5g}") for value in one[rows, 0].tolist()] for one in (target, answer))
        series = {"images": (truths, answers)}
        charts.append(scatter_chart(f"{head.name}: answer and truth", "truth", "answer", series,
                                    xrange=[low, high], yrange=[low, high]))  # fmt: skip
        errors = (answer - target)[:, 0].astype(np.float64)
        edges = histogram_edges([errors])
        counts = np.histogram(np.clip(errors, edges[0], edges[-1]), edges)[0]
        names = [f"{edge:.3g}" for edge in edges[:-1]]
        charts.append(
            bar_chart(f"{head.name}: errors (answer less truth)", "from", "images", names, {"images": counts})
        )
    return charts


def comparison_of(comparison: Comparison) -> dict[str, Any]:
    """Return train and test compared: a table, histograms, and what is answered."""
    charts: list[dict[str, Any]] = []
    sizes = [comparison.measures.get(f"{side} in pixels") for side in ("width", "height")]
    if sizes[0] and sizes[1] and max(np.ptp(np.concatenate(both)) for both in sizes if both) > 0:
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
        shares = {column: frame[column] for column in frame.columns[1:]}
        if len(frame) <= MAX_BARS or frame["name"].str.match(r"^-?[\d.e+-]+$").all():
            long = frame["name"].str.len().max() > 8
            charts.append(bar_chart(f"Shares by {name}", "" if long else name, "share" * (not long),
                                    frame["name"].tolist(), shares, horizontal=bool(long)))  # fmt: skip
        else:
            gap = (frame.iloc[:, -1] - frame.iloc[:, 1]).abs()
            order = gap.sort_values(ascending=False, kind="stable").index[: counting.MAX_ROWS]
            tables.append({"title": f"Shares by {name}, the most different first", "table": table_of(frame.loc[order])})
    table = table_of(comparison.table(), digits=2) if comparison.measures else None
    return {"table": table, "charts": charts, "tables": tables, "notes": comparison.notes}


def problems_of(run: Run) -> dict[str, Any]:
    """Return what prepare found wrong with images. Raises InputError if problems.csv is damaged."""
    problems = run.prepared.problems
    counts = Counter(zip(problems["split"], problems["problem"], problems["action"], strict=True)).most_common()
    summary = pd.DataFrame([(*key, count) for key, count in counts], columns=["split", "problem", "action", "images"])
    rows = problems.head(MAX_PROBLEMS).to_dict("records")
    return {"summary": table_of(summary), "rows": rows, "total": len(problems), "folder": str(run.prepared.folder)}
