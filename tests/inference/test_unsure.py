"""predict --unsure-only: all views where the plain answer is doubted, the plain image alone elsewhere."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.competitions.registry import load_competition
from src.core.errors import InputError
from src.inference.quality import confidence_of
from src.inference.unsure import check_unsure_only, unsure_of
from tests.helpers import replace_oof, run_at
from tests.world import done, run_command

SVHN = load_competition("svhn")


def test_confidence_is_the_probability_of_the_whole_answer() -> None:
    predicted = np.full((2, 6, 11), 0.01)
    predicted[0, :, 3], predicted[1, :, 10] = 0.9, 0.5
    answers = np.array([[3] * 6, [3, 10, 10, 10, 10, 10]])
    found = confidence_of(predicted.reshape(2, 66), answers, SVHN)
    np.testing.assert_allclose(found, [0.9**6, 0.01 * 0.5**5])


def with_changed_answers(world: Path, sure: list[float], changed: list[bool]) -> None:
    """Give the run `baseline` plain predictions that are so sure, and views that change some of the answers."""
    place = 0
    for fold in run_at(world / "runs/svhn/baseline").trained():
        paths = fold.oof()["image_path"]
        plain, full = (np.full((len(paths), 6, 11), 0.001, np.float32) for _ in range(2))
        for row in range(len(paths)):
            plain[row, 0, 1], plain[row, 1:, 10] = sure[place], 1
            full[row, 0, 2 if changed[place] else 1], full[row, 1:, 10] = 0.99, 1
            place += 1
        replace_oof(fold, {"image_path": paths, "probabilities": plain.reshape(-1, 66),
                           "probabilities_tta": full.reshape(-1, 66)})  # fmt: skip


def test_the_threshold_is_where_answers_stop_changing(world: Path) -> None:
    sure = np.linspace(0.1, 0.95, 18).tolist()
    with_changed_answers(world, sure, [0.2 < one < 0.5 for one in sure])
    found = unsure_of(run_at(world / "runs/svhn/baseline"), (0, 1))
    assert 0.4 < found.confidence_threshold < 0.5
    assert found.share == pytest.approx(np.mean(np.array(sure) < found.confidence_threshold))
    assert found.score == pytest.approx(found.score_all, abs=1 / 18)
    with_changed_answers(world, sure, [False] * 18)
    assert unsure_of(run_at(world / "runs/svhn/baseline"), (0, 1)).confidence_threshold == 0


@pytest.mark.parametrize("all_sure", [False, True])
def test_predict_gives_further_views_to_doubted_images_only(world: Path, all_sure: bool) -> None:
    changed = [not all_sure] * 18
    with_changed_answers(world, [0.99] * 18, changed)
    ended = done(world, "predict", "--unsure-only", "--name", "quick")
    assert "baseline: further views for answers less sure than" in ended.out
    made = {}
    for name, flags in (("quick", ("--unsure-only",)), ("full", ()), ("plain", ("--no-tta",))):
        done(world, "predict", *flags, "--name", name)
        with np.load(world / f"submissions/svhn/{name}.npz") as kept:
            made[name] = kept["probabilities"]
    np.testing.assert_allclose(made["quick"], made["plain" if all_sure else "full"], atol=1e-5)
    assert not np.allclose(made["full"], made["plain"], atol=1e-5)
    facts = json.loads((world / "submissions/svhn/quick.json").read_text())["runs"][0]["unsure_only"]
    assert (facts["confidence_threshold"] == 0) == all_sure


def test_where_it_has_no_meaning_it_is_refused(world: Path) -> None:
    for flags in (("--no-tta",), ("--minutes", 1)):
        refused = run_command(world, "predict", "--unsure-only", *flags)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "both choose how many views there are" in refused.err
    labels = replace(SVHN, heads=(replace(SVHN.heads[0], kind="labels"),), pad_class=None)
    with pytest.raises(InputError, match="does not answer with classes only"):
        check_unsure_only(labels, True, None)
