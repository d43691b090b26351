"""Runs side by side: the table, the page, and runs that cannot be compared."""

from pathlib import Path

import pytest

from tests.browser import check_widths, needs_browser, opened
from tests.helpers import replace_oof, run_at
from tests.world import done, refused, run_command


def make_right(run: Path) -> None:
    """Let a run answer half of its images rightly."""
    opened_run = run_at(run)
    labels = opened_run.prepared.labels.set_index("image_path")
    for fold in opened_run.trained():
        arrays = fold.oof()
        for name in ("probabilities", "probabilities_tta"):
            arrays[name][:] = 0.01
            for row, path in enumerate(arrays["image_path"][::2]):
                for head, target in enumerate(labels.loc[path, opened_run.competition.targets]):
                    arrays[name][2 * row, 11 * head + int(target)] = 0.9
        replace_oof(fold, arrays)


@pytest.mark.slow
@needs_browser
def test_two_runs_are_compared_on_a_page(world: Path) -> None:
    make_right(world / "runs" / "svhn" / "other")
    ended = done(world, "compare", "--competition", "svhn")
    lines = [line.split() for line in ended.out.splitlines()]
    assert [line[0] for line in lines[2:6]] == ["other", "baseline", "other", "baseline"]  # the best one first
    assert lines[4] == ["other", "seed=1"]
    assert "baseline: McNemar's exact test: p = " in ended.out
    page = world / "runs" / "svhn" / "compare.html"
    with opened(page) as shown:
        assert shown.locator("section h3", has_text="images that only other has right").count() == 1
        assert shown.locator("section img").count() > 3
        assert shown.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        series = "drawnCharts.get(document.querySelector('[data-chart=score] figure')).data.datasets.length"
        assert shown.evaluate(series) == 2
        shown.select_option("#folds", "each")
        assert shown.evaluate(series) == 4
        check_widths(shown)


def test_runs_that_cannot_be_compared_are_named(world: Path) -> None:
    runs = world / "runs" / "svhn"
    damaged = runs / "other" / "fold1" / "oof.npz"
    damaged.unlink()  # a link to a file that other tests read
    damaged.write_bytes(b"")
    ended = done(world, "compare")
    assert "note: other is skipped: " in ended.out
    refused(run_command(world, "compare", "baseline", "other"), "oof.npz", "src.train")
    refused(run_command(world, "compare", "baseline", "nix"), "no such run", "baseline, other")
    refused(run_command(world, "compare", "baseline", "baseline"), "--run-name baseline: appears twice")
