"""report.html in a browser: it fits, filters, marks labels, and its relabel.csv is what prepare takes."""

from pathlib import Path
from typing import Any

import pytest

from src.core.csv_text import parse_csv
from tests.browser import check_widths, eventually, needs_browser, opened
from tests.helpers import table_at
from tests.world import PREPARE, done, fold_of

OUTSIDE = "[...document.querySelectorAll('[src]')].map((one) => one.src)"  # the page is one file
REPORT = "runs/svhn/baseline/evaluation/report.html"


def names(page: Any, within: str = "#grid") -> list[str]:
    """Return the file names of the tiles that are shown."""
    found: list[str] = page.eval_on_selector_all(f"{within} .tile .open", "all => all.map((one) => one.ariaLabel)")
    return [text.split(":")[0] for text in found]


@needs_browser
def test_the_page_fits_and_filters_and_its_corrections_are_taken_by_prepare(world: Path) -> None:
    with opened(world / REPORT, dark=True) as page:
        check_widths(page)
        sizes = page.eval_on_selector_all(".picture > div", "all => all.map((one) => one.style.backgroundSize)")
        assert sizes
        assert not [size for size in sizes if "auto" in size]  # sheets of different shapes are stretched alike
        assert page.evaluate("drawnCharts.size") >= 8
        assert page.evaluate(OUTSIDE) == []
        everything = names(page)
        assert len(everything) == 18
        page.select_option("[name=right]", "wrong")
        page.select_option("[name=length]", "2")
        labels = table_at(world / "runs" / "svhn", "labels").set_index("image_path")
        heads = [f"digit{place}" for place in range(1, 7)]
        lengths = (labels[heads] != 10).sum(axis=1)
        eventually(page, lambda: set(names(page)) <= set(lengths.index[lengths == 2]))
        page.click("button[type=reset]")
        page.fill("[name=search]", everything[3])
        eventually(page, lambda: names(page) == [everything[3]])
        page.check("[name=heat]")
        eventually(page, lambda: page.locator("#grid .heat").count() == 1)
        assert page.evaluate("fetch(sheetUrl('map0')).then((answer) => answer.blob()).then((blob) => blob.size)") > 100

        page.click("#grid .open")
        assert page.locator("#detail .heat").count() == 1
        page.click("#detail button:text-is('wrong')")
        page.fill("#detail .mark input", "12x")
        page.click("#detail button:text-is('save')")
        assert "x is not one of 0 1 2" in page.inner_text("#detail .mark")
        page.fill("#detail .mark input", "12")
        page.click("#detail button:text-is('save')")
        page.click("#detail button:text-is('close')")
        page.click("button[type=reset]")
        eventually(page, lambda: names(page) == everything)
        page.locator("#grid .open").nth(5).click()
        page.click("#detail button:text-is('right')")
        page.click("#detail button:text-is('close')")
        assert page.inner_text("#mark-count") == "2 marked: 1 wrong, 1 right"
        page.click("#mark-save")
        assert "Enter your name" in page.inner_text("#mark-note")
        page.fill("#mark-by", 'Ann "the eye", B.')
        with page.expect_download() as download:
            page.click("#mark-save")
        download.value.save_as(world / "relabel.csv")
        check_widths(page)
    table = parse_csv((world / "relabel.csv").read_bytes(), "relabel.csv").set_index("image_path")
    assert set(table["by"]) == {'Ann "the eye", B.'}
    assert table["when"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").all()
    ended = done(world, "prepare", *PREPARE, "--relabel", "relabel.csv")
    assert '1 labels changed, 1 confirmed by Ann "the eye", B.' in ended.out
    after = table_at(world / "runs" / "svhn", "labels").set_index("image_path")
    assert after[heads].to_numpy()[after.index == everything[3]].tolist() == [[1, 2, 10, 10, 10, 10]]
    others = after.index != everything[3]
    assert after[heads][others].equals(labels[heads][others])


def test_the_page_says_what_it_cannot_show(world: Path) -> None:
    done(world, "evaluate")  # the world's was before predict
    plain = (world / REPORT).read_text()
    assert "answers on test images" in plain
    assert "run predict, then evaluate again" not in plain
    assert "has no readable log.csv" not in plain
    (fold_of(world) / "log.csv").unlink()
    for number in (0, 1):
        path = fold_of(world, number) / "test.npz"
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-200])
        (fold_of(world, number) / "last.safetensors").unlink()
    ended = done(world, "evaluate")
    assert "note: the report does not show what the network looked at" in ended.out
    page = (world / REPORT).read_text()
    assert "Fold 0 has no readable log.csv" in page
    assert "What the network looked at is not shown" in page
    assert "answers on test images" not in page
    assert "Answers on test images are not known yet: run predict, then evaluate again." in page


@pytest.mark.parametrize("count", [0, 3])
def test_saliency_is_shown_of_as_many_images_as_are_asked_for(world: Path, count: int) -> None:
    done(world, "evaluate", "--num-saliency", count)
    page = (world / REPORT).read_text()
    assert ('data-sheet="map0"' in page) == bool(count)
