"""report.html of every kind of answer in a browser: it fits, can be read, and its filters show what they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.report.calibration import confidences
from src.report.gallery import display_text
from src.report.page import Report, report_page
from tests.browser import check_colours, check_widths, eventually, needs_browser, opened
from tests.report.made import LONG_NAMES, made_competition, made_report

COUNT = 48  # images: all tiles are drawn at once
MATRICES = {"classes": [40], "labels": [], "heads": [5, 3, 3], "numbers": [], "strings": [11]}  # classes of each
WANTED = {"classes": LONG_NAMES[7], "labels": "frog eye", "strings": "3"}  # a class that the gallery is filtered by


def check_shown(page: Any, expected: list[str]) -> None:
    """Fail unless the tiles are soon those of these images."""

    def is_right() -> bool:
        found: list[str] = page.eval_on_selector_all("#grid .tile .open", "all => all.map((one) => one.ariaLabel)")
        return sorted(text.split(":")[0] for text in found) == sorted(expected)

    eventually(page, is_right, seconds=10)


def table_of(report: Report) -> pd.DataFrame:
    """Return what is known of each image: fold, right, sure, truth, answer, and which heads are wrong."""
    oof = report.oof
    table = oof.labels[["image_path", "fold"]].assign(right=oof.right, sure=100 * confidences(oof))
    if "number" in oof.competition.layout.kinds:
        table["sure"] = np.abs(oof.answers - oof.target).sum(axis=1)
    for name, values in (("truth", oof.target), ("answer", oof.answers)):
        table[name] = [display_text(row, oof.competition) for row in values.tolist()]
    parts = zip(*(oof.competition.layout.split_targets(of) for of in (oof.target, oof.answers)), strict=True)
    for head, (truth, answer) in enumerate(parts):
        table[f"wrong{head}"] = (truth != answer).any(axis=1)
    return table


def has(texts: "pd.Series[str]", wanted: str, kind: str) -> "pd.Series[bool]":
    """Return whether each text is, lists or contains the class."""
    if kind == "strings":
        return texts.str.contains(wanted, regex=False)
    return texts.map(lambda text: wanted in (text.split("|") if kind == "labels" else [text]))


def filters_of(kind: str, table: pd.DataFrame) -> list[tuple[dict[str, str], "pd.Series[bool]"]]:
    """Return values of the form, and the images that they ask for."""
    sure = np.sort(table["sure"].to_numpy())
    low, high = (sure[9] + sure[10]) / 2, (sure[30] + sure[31]) / 2
    between = table["sure"].between(low, high)
    found = [
        ({"fold": "1"}, table["fold"] == 1),
        ({"low": f"{low:.9g}", "high": f"{high:.9g}"}, between),
        ({"high": f"{low:.9g}", "fold": "2"}, (table["sure"] < low) & (table["fold"] == 2)),
        ({"search": "RAIN/00011"}, table["image_path"] == "train/00011.png"),
        ({"search": table["truth"][5][:30].upper()}, _says(table, table["truth"][5][:30])),
    ]
    if kind != "numbers":
        found += [
            ({"right": "wrong"}, ~table["right"]),
            ({"right": "right", "fold": "0"}, table["right"] & (table["fold"] == 0)),
        ]
    if kind in WANTED:
        found += [({name: WANTED[kind]}, has(table[name], WANTED[kind], kind)) for name in ("truth", "answer")]
    if kind in ("heads", "strings"):
        found += [({"head": "1"}, table["wrong1"])]
    if kind == "strings":
        found += [({"length": "2"}, table["truth"].str.len() == 2)]
    return found


def _says(table: pd.DataFrame, words: str) -> "pd.Series[bool]":
    columns = [table[name].str.lower().str.contains(words.lower(), regex=False) for name in ("truth", "answer")]
    return columns[0] | columns[1] | table["image_path"].str.contains(words.lower(), regex=False)


@needs_browser
@pytest.mark.parametrize("kind", MATRICES)
def test_a_page_of_any_kind_fits_is_readable_and_filters_exactly(tmp_path: Path, kind: str) -> None:
    report = made_report(tmp_path, made_competition(kind), COUNT)
    text, _ = report_page(report, 0)
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    table = table_of(report)
    with opened(tmp_path / "report.html") as page:
        check_widths(page)
        check_colours(page)
        assert not re.search(r"\b(NaN|undefined|null)\b", page.inner_text("body"))
        rows = page.eval_on_selector_all(".matrix", "all => all.map((one) => one.rows.length - 1)")
        assert rows == MATRICES[kind]
        check_shown(page, table["image_path"].tolist())
        for values, wanted in filters_of(kind, table):
            page.click("button[type=reset]")
            for name, value in values.items():
                if page.locator(f"select[name={name}]").count():
                    page.select_option(f"[name={name}]", value)
                else:
                    page.fill(f"[name={name}]", value)
            check_shown(page, table["image_path"][wanted].tolist())
        if kind == "classes":
            cell = page.locator(".matrix td[data-truth]").nth(3)
            truth, answer = cell.get_attribute("data-truth"), cell.get_attribute("data-answer")
            cell.click()
            expected = table["image_path"][(table["truth"] == truth) & (table["answer"] == answer)].tolist()
            assert expected
            check_shown(page, expected)
        page.locator("#grid .open").first.click()
        check_widths(page)
