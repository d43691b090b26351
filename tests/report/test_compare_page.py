"""compare.html of three runs in a browser: the pair that is chosen is shown, with names, in light and dark."""

from pathlib import Path

import pytest

from src.report.compare_page import page
from src.report.side_by_side import against_first
from tests.browser import check_colours, check_widths, needs_browser, opened
from tests.report.made import made_competition, made_oof, made_side


def compared(folder: Path, kind: str) -> str:
    """Return the page of three runs that answer the same images."""
    oofs = [made_oof(made_competition(kind), 60, seed) for seed in range(3)]
    oofs[1:] = [made_oof(oof.competition, 60, seed, oofs[0].target) for seed, oof in enumerate(oofs[1:], 1)]
    sides = [
        made_side(folder, name, oof, lr=oof.score) for name, oof in zip(("one", "two", "three"), oofs, strict=True)
    ]
    return page(sides, against_first(sides), ["four is skipped: it has no fold"], 12)


@needs_browser
def test_the_run_that_is_chosen_is_compared_with_the_first(tmp_path: Path) -> None:
    (tmp_path / "compare.html").write_text(compared(tmp_path, "named"), encoding="utf-8")
    with opened(tmp_path / "compare.html") as shown:
        titles = shown.locator("section[data-pair] > h3:first-child")
        assert titles.locator("visible=true").all_inner_texts() == ["two against one"]
        shown.select_option("#pair", label="three")
        assert titles.locator("visible=true").all_inner_texts() == ["three against one"]
        figure = shown.locator("section[data-pair='1'] figure.chart canvas").first
        assert figure.bounding_box()["width"] > 200  # drawn again: it was hidden before
        texts = shown.locator("section[data-pair='1'] dd").all_inner_texts()
        assert {text.split()[0] for text in texts} == {"cat", "dog", "owl"}  # as the report calls them
        check_widths(shown)
        check_colours(shown)
        shown.select_option("#pair", label="two")
        assert titles.locator("visible=true").all_inner_texts() == ["two against one"]


@pytest.mark.parametrize("kind", ["classes", "labels", "heads", "numbers", "strings"])
def test_every_kind_is_compared(tmp_path: Path, kind: str) -> None:
    text = compared(tmp_path, kind)
    assert text.count("<section data-pair=") == 2
    assert "Not compared" not in text
    assert "four is skipped: it has no fold" in text
