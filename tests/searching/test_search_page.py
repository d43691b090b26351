"""The page of a search: which settings matter, the table of trials sorted and filtered, the gain."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from src.searching.page import importances, render_search
from src.searching.record import Report, SearchRecord
from src.searching.study import open_study
from tests.browser import check_widths, needs_browser, opened
from tests.searching.studies import make_search

SPACE = ("lr=1e-4..1e-1:log", "label_smoothing=0,0.05", "epochs=12")
RATES = (1e-2, 1e-4, 1e-1, 1e-3)  # the score grows along these, and hardly with the smoothing
REPORT = Report(
    trial=4, best_run="search-trial-4", default_run="search-default", best=0.82, default=0.8, difference=0.02,
    difference_95=0.015, num_images=500,
)  # fmt: skip
NUMBER, SCORE, LR = 1, 2, 3  # columns


def write_page(folder: Path, num_rates: int) -> tuple[Any, Path]:
    """Write the page of a search with two finished trials for each rate, one pruned and one failed; return its study
    too."""
    search = make_search(folder, *SPACE)
    study = open_study(search.file, True, True, search.early)
    for rate in RATES[:num_rates]:
        for smoothing in ("0", "0.05"):
            settings: dict[str, Any] = {
                "params": {"lr": rate, "label_smoothing": smoothing},
                "distributions": search.space.searched,
            }
            score = 0.5 + RATES.index(rate) / 10 + float(smoothing) / 100
            study.add_trial(create_trial(value=score, intermediate_values={1: score / 2, 2: score}, **settings))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.3, intermediate_values={1: 0.3}, **settings))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"error": "too <b>large</b>"}, **settings))
    record = SearchRecord(
        snapshot="a", image_size=(64, 128), inner="b", space=SPACE, report_fold=0, inner_folds=None, scored_folds=1,
        prune=True, seed=0, reports=(REPORT,),
    )  # fmt: skip
    file = folder / "search.html"
    file.write_text(render_search(search, study, record, "python -m src.train --lr 0.1"), encoding="utf-8")
    return study, file


def charts(file: Path) -> list[dict[str, Any]]:
    texts = re.findall(r'<script type="application/json">(.*?)</script>', file.read_text(encoding="utf-8"), re.DOTALL)
    return [json.loads(text) for text in texts]


def test_the_bars_are_the_importances_the_greatest_first(tmp_path: Path) -> None:
    study, file = write_page(tmp_path, 4)
    found = importances(study)
    assert set(found) == {"lr", "label_smoothing"}
    assert found["lr"] > 0.7 > 0.3 > found["label_smoothing"] >= 0
    (bars,) = (chart for chart in charts(file) if chart["kind"] == "bar")
    assert bars["names"] == ["lr", "label_smoothing"]
    assert bars["series"] == [{"name": "importance", "data": [found["lr"], found["label_smoothing"]]}]


def test_few_trials_tell_no_importances(tmp_path: Path) -> None:
    study, file = write_page(tmp_path, 2)
    assert importances(study) == {}
    assert all(chart["kind"] != "bar" for chart in charts(file))
    assert "Too few finished trials to tell." in file.read_text(encoding="utf-8")


@needs_browser
def test_the_table_is_sorted_and_filtered_and_every_chart_is_drawn(tmp_path: Path) -> None:
    study, file = write_page(tmp_path, 4)
    found = importances(study)

    with opened(file) as shown:
        assert shown.evaluate("drawnCharts.size") == 5  # history, curves, importances, and one for each setting
        kinds = "[...drawnCharts.values()].filter((one) => one.config.type === 'bar')"
        ((names, data),) = shown.evaluate(f"{kinds}.map((one) => [one.data.labels, one.data.datasets[0].data])")
        assert names == ["lr", "label_smoothing"]
        assert data == pytest.approx([found["lr"], found["label_smoothing"]])

        def column(number: int) -> list[str]:
            """Return the texts of a column, of the rows that are shown."""
            cells = shown.locator(f"#trials tbody tr:not([hidden]) td:nth-child({number})")
            return [str(text) for text in cells.all_inner_texts()]

        def sort(number: int) -> list[str]:
            shown.click(f"#trials th:nth-child({number}) button")
            assert shown.locator("#trials th[aria-sort]").count() == 1
            return column(number)

        assert column(NUMBER) == [str(number) for number in range(10)]
        assert sort(NUMBER) == [str(number) for number in reversed(range(10))]
        scores = ["0.8005", "0.8000", "0.7005", "0.7000", "0.6005", "0.6000", "0.5005", "0.5000", "0.3000"]
        assert sort(SCORE) == [*scores, ""]  # the failed one's is last, up and down
        assert sort(SCORE) == [*reversed(scores), ""]
        assert sort(LR) == ["0.1", "0.1", "0.01", "0.01", *["0.001"] * 4, "0.0001", "0.0001"]
        for state, numbers in (("pruned", ["8"]), ("failed", ["9"]), ("finished", [str(one) for one in range(8)])):
            shown.select_option("#state", state)
            assert sorted(column(NUMBER)) == numbers
        shown.select_option("#state", "")
        assert len(column(NUMBER)) == 10
        assert "too <b>large</b>" in shown.locator("#trials tbody").inner_text()
        assert shown.locator(".gain .good").inner_text() == "+0.0200"
        check_widths(shown)
