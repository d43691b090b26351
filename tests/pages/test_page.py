"""Pages: values are escaped, charts are drawn in both themes, nothing overflows or is loaded from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

from src.pages import page
from tests.browser import check_widths, needs_browser, opened

HOSTILE = "</script><script>document.title='broken'</script>&\u2028"


def charts() -> str:
    """Return a page with a chart of each kind."""
    template = (
        '{% extends "base.html" %}{% block main %}<h1>{{ title }}</h1>'
        "{% for spec in specs %}{{ chart(spec) }}{% endfor %}{% endblock %}"
    )
    specs = [
        page.line_chart("loss", "epoch", "loss", {HOSTILE: ([1, 2, 3], np.array([0.5, np.nan, 0.1]))}, diagonal=True),
        page.scatter_chart("places", "out of fold", "leaderboard", {"runs": ([0.1], [0.2])}, labels={"runs": ["a"]}),
        page.bar_chart("recall", "class", "recall", ["cat", "dog"], {"recall": np.array([0.5, 1.0])}, horizontal=True),
    ]
    return page._environment().from_string(template).render(title=HOSTILE, specs=specs)


def test_text_cannot_leave_its_element_and_json_holds_no_nan() -> None:
    text = charts()
    assert "<script>document" not in text
    assert "NaN" not in page.as_json({"a": [float("nan"), np.float32(2)]})
    assert json.loads(page.as_json({"a": [HOSTILE, np.arange(2), float("inf")]})) == {"a": [HOSTILE, [0, 1], None]}


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        page.render("base.html")


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_charts_are_drawn_and_fit(tmp_path: Path, dark: bool) -> None:
    (tmp_path / "page.html").write_text(charts(), encoding="utf-8")
    with opened(tmp_path / "page.html", dark=dark) as shown:
        assert shown.title() != "broken"
        assert shown.evaluate("drawnCharts.size") == 3
        check_widths(shown)
        shown.screenshot(path=tmp_path / f"{dark}.png", full_page=True)
