"""compare.html: runs side by side in one file."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from src.core.errors import InputError
from src.data.levels import thumbnails
from src.inference.quality import likelihood_losses
from src.metrics import metric_of
from src.pages.page import bar_chart, line_chart, render
from src.report.gallery import display_text
from src.report.paired import Pair, Part, changed_sides, parts_of
from src.report.side_by_side import Against, Side, difference_text, differing, table_of
from src.runs.run import Run

MAX_PARTS = 24  # classes, lengths ... drawn in a chart: those that differ most
CHARTS = {  # x and y of the curves
    "loss": ("loss of training", "epoch", "loss"),
    "score": ("score on held-out images", "epoch", "score"),
    "time": ("score by time of training", "minutes", "score"),
    "lr": ("learning rate", "epoch", "lr"),
}


def page(sides: list[Side], others: list[Against], notes: list[str], num_images: int) -> str:
    """Return the page; of each pair it shows up to `num_images` images that only the one, or only the other, has
    right."""
    competition = sides[0].run.competition
    metric, names = metric_of(competition), differing(sides)
    return render(
        "compare.html",
        title=f"{competition.name} · {len(sides)} run{'s' * (len(sides) > 1)} side by side",
        metric=metric.name.replace("_", " "),
        less_is_better=not metric.greater_is_better,
        first=sides[0].name,
        rows=table_of(sides, others),
        settings={name: [side.settings.get(name, "") for side in sides] for name in names},
        names=[side.name for side in sides],
        notes=notes,
        intervals=_intervals([(side.name, *side.interval[:2]) for side in sides], "score, 95% interval"),
        differences=_intervals(
            [(one.side.name, one.difference.low, one.difference.high) for one in others if one.difference],
            f"difference to {sides[0].name}, 95% interval",
        ),
        curves={side.name: _curves(side) for side in sides},
        charts_of={name: line_chart(title, x, "", {}, integers=x == "epoch") for name, (title, x, _) in CHARTS.items()},
        axes={name: [x, y] for name, (_, x, y) in CHARTS.items()},
        pairs=[_pair(sides[0], one, num_images) for one in others],
    )


def _intervals(rows: list[tuple[str, float, float]], title: str) -> dict[str, Any] | None:
    """Return a chart of the intervals that are defined, or None if there is none."""
    defined = [row for row in rows if math.isfinite(row[1])]
    if not defined:
        return None
    low, high = min(row[1] for row in defined), max(row[2] for row in defined)
    room = 0.1 * (high - low) or 0.01
    names, values = [row[0] for row in defined], [[row[1], row[2]] for row in defined]
    return bar_chart(title, "", "", names, {"from and to": values}, horizontal=True, yrange=[low - room, high + room])


def _curves(side: Side) -> dict[str, Any]:
    """Return the columns of each fold, and their mean over the folds that are furthest."""
    folds = {str(number): _columns(rows) for number, rows in side.curves.items() if rows}
    longest = max((len(columns["epoch"]) for columns in folds.values()), default=0)
    full = [columns for columns in folds.values() if len(columns["epoch"]) == longest]
    mean = {name: _mean([columns[name] for columns in full]) for name in full[0]} if full else {}
    return {"mean": mean, "folds": folds}


def _columns(rows: list[dict[str, float | None]]) -> dict[str, list[float | None]]:
    seconds = np.cumsum([row.get("seconds") or 0.0 for row in rows])
    columns: dict[str, list[float | None]] = {
        name: [row.get(name) for row in rows] for name in ("epoch", "loss", "score", "lr")
    }
    return columns | {"minutes": [round(float(value) / 60, 4) for value in seconds]}


def _mean(columns: list[list[float | None]]) -> list[float | None]:
    values = np.array(columns, dtype=np.float64)  # (folds, epochs), NaN for None
    return [None if math.isnan(value) else value for value in values.mean(axis=0).tolist()]


def _pair(first: Side, against: Against, num_images: int) -> dict[str, Any]:
    """Return what the page says of a run against the first."""
    said: dict[str, Any] = {"name": against.side.name, "why": against.why, "notes": [], "parts": [], "sides": []}
    pair, difference = against.pair, against.difference
    if pair is None or difference is None:
        return said
    gained, lost = changed_sides(pair)
    verb = "is nearer to" if pair.has_numbers else "has right"
    return said | {
        "difference": difference_text(difference),
        "how": difference.how,
        "p_value": difference.p_value,
        "images": len(pair.one.target),
        "scores": [pair.one.score, pair.other.score],
        "notes": list(pair.notes),
        "parts": [_parts(title, measure, parts, first.name, against.side.name)
                  for title, measure, parts in parts_of(pair)],
        "sides": [
            {"title": f"only {against.side.name} {verb}", "count": len(gained),
             "shown": _images(first.run, pair, gained[:num_images])},
            {"title": f"only {first.name} {verb}", "count": len(lost),
             "shown": _images(first.run, pair, lost[:num_images])},
        ],
    }  # fmt: skip


def _parts(title: str, measure: str, parts: list[Part], one: str, other: str) -> dict[str, Any]:
    most = sorted(parts, key=lambda part: -abs(part.other - part.one))[:MAX_PARTS]
    shown = [part for part in parts if part in most]
    chart = bar_chart(
        f"{measure}, by {title}", title, "", [part.name for part in shown],
        {one: [part.one for part in shown], other: [part.other for part in shown]},
    )  # fmt: skip
    return {"title": title, "measure": measure, "chart": chart, "parts": parts, "num_drawn": len(shown)}


def _images(run: Run, pair: Pair, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return the images of these rows with the truth and both answers; without pixels if the cache is not there."""
    if not len(rows):
        return []
    competition, paths = pair.one.competition, pair.one.labels["image_path"].to_numpy()[rows].tolist()
    try:
        cache = run.prepared.cache("train")
        pictures: Sequence[str] = [_jpeg(image) for image in thumbnails(cache.images[cache.rows_of(paths)])]
    except InputError:
        pictures = [""] * len(paths)
    sure = [
        np.exp(-likelihood_losses(oof.probabilities[rows], oof.answers[rows], competition))
        for oof in (pair.one, pair.other)
    ]
    texts = [
        [display_text(ids, competition) or "(none)" for ids in values[rows].tolist()]
        for values in (pair.one.target, pair.one.answers, pair.other.answers)
    ]
    return [
        {
            "path": path, "picture": picture, "truth": texts[0][at], "one": texts[1][at], "other": texts[2][at],
            "sure": None if pair.has_numbers else [float(of[at]) for of in sure],
        }
        for at, (path, picture) in enumerate(zip(paths, pictures, strict=True))
    ]  # fmt: skip


def _jpeg(image: np.ndarray) -> str:
    """Return a data URI of an image (H, W, 3)."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
