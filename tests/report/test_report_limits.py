"""What report.html holds of very much: it stays below 5 MB, opens at once, and says what it does not show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.competitions.spec import Head
from src.report import gallery as gallery_module
from src.report.gallery import MAX_SUSPECTS, shown_rows
from src.report.page import report_page
from tests.browser import needs_browser, opened
from tests.report.made import Drawn, made_competition, made_oof, made_report

MOST = 5_000_000  # bytes
NUM_IMAGES = 10_000


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 10,000 images."""
    folder = tmp_path_factory.mktemp("large")
    text, gallery = report_page(made_report(folder, made_competition("classes"), NUM_IMAGES), 0)
    assert len(gallery.rows) == NUM_IMAGES
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


def test_ten_thousand_images_take_less_than_five_megabytes(large_page: Path) -> None:
    assert 3_000_000 < large_page.stat().st_size < MOST


@needs_browser
def test_a_page_of_ten_thousand_images_draws_few_tiles_and_filters_in_less_than_a_second(large_page: Path) -> None:
    with opened(large_page) as page:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the page's own time: machines are busy

        def seconds() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return float({one["name"]: one["value"] for one in metrics}["TaskDuration"])

        assert 0 < page.locator("#grid .tile").count() <= 200
        assert page.locator("#suspect-grid .tile").count() <= 60
        assert page.inner_text("#count") == "10,000 of 10,000 images"
        assert "NaN" not in page.inner_text("#suspect-grid")
        for name, value in (("search", "train/000"), ("right", "wrong"), ("fold", "1")):
            before = seconds()
            page.evaluate("([name, value]) => { form.elements[name].value = value; showFiltered(); }", [name, value])
            page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")  # it is painted
            assert seconds() - before < 1
        assert 0 < page.locator("#grid .tile").count() <= 200


def many(count: int, head: str = "kind", text: str = "") -> Head:
    """Return a head of many classes."""
    return Head(name=head, classes=tuple(f"{number:04d}{text}" for number in range(count)))


MANY_LABELS = Head(name="tags", kind="labels", classes=tuple(f"label{number:03d}" for number in range(200)))
LARGE: dict[str, tuple[dict[str, Any], int]] = {
    "200 labels an image": ({"heads": (MANY_LABELS,), "columns": ("id", "tags"), "metric": "log_loss"}, 2500),
    "3,000 long names": ({"heads": (many(3000, text="語" * 120),), "columns": ("id", "kind")}, 1500),
    "20 heads of 40 classes": (
        {"heads": tuple(many(40, f"head{at}") for at in range(20)), "columns": ("id",), "answer": "heads"}, 2500,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LARGE)
def test_a_page_of_long_labels_or_many_classes_is_not_larger(tmp_path: Path, what: str) -> None:
    options, count = LARGE[what]
    text, gallery = report_page(made_report(tmp_path, made_competition("many", **options), count), 0)
    assert len(text.encode()) < MOST
    assert len(gallery.rows) > 100
    assert (f"{len(gallery.rows):,} of {count:,} images" in text) == (len(gallery.rows) < count)
    assert 'name="truth"' in text if what == "200 labels an image" else 'name="truth"' not in text


def test_maps_of_many_images_take_a_share_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).random((500, 24, 32)).astype(np.float32)
    monkeypatch.setattr(gallery_module, "_maps", lambda *given: (noise[: len(given[-1])], ""))
    text, gallery = report_page(made_report(tmp_path, made_competition("classes"), 4000), 500)
    assert len(text.encode()) < MOST
    assert len(gallery.columns["explained"]) == 500
    assert gallery.maps
    assert gallery.sheets
    assert gallery.sheets.width >= 32


@pytest.mark.parametrize(("most", "count"), [(500, 2000), (120, 2000), (3000, 2000)])
def test_the_most_suspicious_labels_are_always_shown(most: int, count: int) -> None:
    oof = made_oof(made_competition("classes"), count)
    wrong = np.flatnonzero(~oof.right)
    unsure = wrong[np.argsort(oof.probabilities[wrong].max(axis=1))][:400].tolist()  # the least confident mistakes
    rows = shown_rows(oof, oof.probabilities.max(axis=1), unsure, most)
    assert len(rows) == len(set(rows.tolist())) == min(most, count)
    assert set(unsure[: min(most, MAX_SUSPECTS)]) <= set(rows.tolist())


def test_images_that_are_elsewhere_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_module, "RemotePixels", Drawn)
    report = made_report(tmp_path, made_competition("classes"), 6000)
    assert len(report.suspects) > MAX_SUSPECTS
    text, gallery = report_page(report, 0)
    assert len(gallery.rows) == 500
    assert f"the {MAX_SUSPECTS} most suspicious are below" in text


@pytest.mark.parametrize(("room", "kept"), [(16, 16), (0, 0)])
def test_out_of_memory_keeps_the_maps_that_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: int
) -> None:
    seen: list[int] = []

    def scarce(network: Any, images: np.ndarray, layout: Any) -> np.ndarray:
        seen.append(len(images))
        if sum(seen) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return np.ones(images.shape[:3], np.float32)

    monkeypatch.setattr(gallery_module, "saliency", scarce)
    text, gallery = report_page(made_report(tmp_path, made_competition("named"), 60), 40)
    assert gallery.note.startswith("out of memory")
    assert len(gallery.columns["explained"]) == kept
    said = f"shown for only {kept} images" if kept else "not shown"
    assert f"What the network looked at is {said}: out of memory" in text
    assert ('data-sheet="map0"' in text) == bool(kept)


def test_a_slow_network_explains_fewer_images_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_module, "SALIENCY_SECONDS", 0.0)
    monkeypatch.setattr(
        gallery_module, "saliency", lambda network, images, layout: np.ones(images.shape[:3], np.float32)
    )
    text, gallery = report_page(made_report(tmp_path, made_competition("named"), 60), 40)
    assert len(gallery.columns["explained"]) == 16
    assert "What the network looked at is shown for only 16 images: stopped after 0 seconds" in text


def test_another_error_of_the_network_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> np.ndarray:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(gallery_module, "saliency", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        report_page(made_report(tmp_path, made_competition("named"), 30), 10)
