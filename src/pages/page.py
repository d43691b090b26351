"""From a template and values to a page: one HTML file with its style, scripts and data inside.

Templates are Jinja2 files beside this one and extend base.html. Charts are drawn by the bundled Chart.js (MIT,
https://www.chartjs.org); a template writes `{{ chart(spec) }}` with a specification made by `line_chart` and its like.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent


def _finite(value: Any) -> Any:
    """Return the value with None for every number that is not finite: JSON has no name for it."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(value: Any) -> Markup:
    """Return JSON that may stand inside a script element: no character in it can end the element."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False)
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escaped)
    return Markup(text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # nosec: escaped above


def _chart(spec: dict[str, Any]) -> Markup:
    """Return the element that charts.js draws a chart into."""
    label = Markup.escape(spec.get("title", "chart"))
    return Markup(  # nosec: as_json and escape leave no markup
        f'<figure class="chart"><div><canvas role="img" aria-label="{label}"></canvas></div>'
        f'<script type="application/json">{as_json(spec)}</script></figure>'
    )


def _text(file: str) -> Markup:
    """Return a file of this folder as it is."""
    return Markup((FOLDER / file).read_text(encoding="utf-8"))  # nosec: our own files


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(chart=_chart, file=_text)
    environment.filters["json"] = as_json
    return environment


def render(template: str, **values: Any) -> str:
    """Return the page that a template makes of the values; text in them is escaped. Raises if one is missing."""
    return _environment().get_template(template).render(**values)


def _plot(kind: str, title: str, x: str, y: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "title": title, "x": x, "y": y, **more}


def line_chart(title: str, x: str, y: str, series: dict[str, tuple[Any, Any]], **more: Any) -> dict[str, Any]:
    """Return a chart of lines; `series` gives the xs and ys by name. more: log, diagonal, points=True, xrange,
    yrange=[low, high], integers=True (of x), emphasis=name of the one line that stands out."""
    return _plot("line", title, x, y, series=_points(series), **more)


def scatter_chart(title: str, x: str, y: str, series: dict[str, tuple[Any, Any]], **more: Any) -> dict[str, Any]:
    """Return a chart of points; as line_chart. more: labels={name: [text of each point]},
    intervals={name: [[low, high] of each point, along x]}; diagonal=[from, to] for other axes than 0 to 1; xlog,
    xnames=[what x = 0, 1, 2 ... stand for], line={"name", "data"}: steps drawn over the points."""
    return _plot("scatter", title, x, y, series=_points(series), **more)


def bar_chart(title: str, x: str, y: str, names: list[str], series: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a chart of bars: a value per name (along x) and series. more: horizontal=True."""
    values = [{"name": name, "data": list(values)} for name, values in series.items()]
    return _plot("bar", title, x, y, names=names, series=values, **more)


def _points(series: dict[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "data": [[a, b] for a, b in zip(xs, ys, strict=True)]} for name, (xs, ys) in series.items()]
