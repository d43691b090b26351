"""Blending: weights from out-of-fold predictions, and what they gain."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions import food11 as food
from src.inference.blending import quality, select
from src.inference.ensemble import weighted_mean
from tests.fixtures import MakeFood11, Podium
from tests.helpers import replace_oof, run_at, table_at
from tests.world import refused

TRAIN = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 24, 32, "--batch-size", 4, "--epochs", 1)
COMPETITION = ("--competition", "food11")
NUM_CLASSES = 11


def probabilities_of(truth: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (N, 11): confident if right; if wrong, the next class is only slightly more probable than the true one."""
    table = np.full((len(truth), NUM_CLASSES), 0.01, np.float32)
    rows = np.arange(len(truth))
    table[rows, truth] = np.where(right, 0.9, 0.42)
    table[rows, (truth + 1) % NUM_CLASSES] = np.where(right, 0.01, 0.49)
    return table


def replace_answers(run_dir: Path, is_right: Callable[[int], bool]) -> None:
    """Replace a run's out-of-fold probabilities; `is_right(i)` decides for the i-th image, in the order of paths."""
    labels = table_at(run_dir.parent, "labels").sort_values("image_path", ignore_index=True)
    right = np.array([is_right(number) for number in range(len(labels))])
    table = pd.DataFrame(probabilities_of(labels["category"].to_numpy(), right), index=labels["image_path"])
    for fold in run_at(run_dir).trained():
        image_paths = fold.oof()["image_path"]
        made = table.loc[image_paths.tolist()].to_numpy()
        replace_oof(fold, {"image_path": image_paths, "probabilities": made, "probabilities_tta": made})


@pytest.fixture
def runs(food11: MakeFood11, podium: Podium, tmp_path: Path) -> Path:
    """Return runs/food11 with the runs "one", right for even images, and "two", right for odd ones; 20 images."""
    food11(num_per_class=4, num_val=4, num_test=3)
    assert podium("prepare", *COMPETITION, "--num-folds", 2).code == 0
    assert podium("train", *COMPETITION, *TRAIN, "--fold", "all", "--run-name", "one").code == 0
    folder = tmp_path / "runs" / "food11"
    shutil.copytree(folder / "one", folder / "two")
    replace_answers(folder / "one", lambda number: number % 2 == 0)
    replace_answers(folder / "two", lambda number: number % 2 == 1)
    return folder


def blend_note(tmp_path: Path, name: str = "blend") -> dict[str, Any]:
    note: dict[str, Any] = json.loads((tmp_path / "submissions" / "food11" / f"{name}.json").read_text())
    return note


def test_blending_complementary_runs_improves_the_score(runs: Path, podium: Podium, tmp_path: Path) -> None:
    code, out, err = podium("blend", *COMPETITION, "--run-name", "one", "two")
    assert code == 0, err
    note = blend_note(tmp_path)
    assert [run["run"] for run in note["runs"]] == ["one", "two"]
    weights = [run["weight"] for run in note["runs"]]
    assert sum(weights) == pytest.approx(1)
    assert min(weights) > 0.2
    assert note["blend"]["fitted_score"] == 1
    assert note["blend"]["cross_validated_score"] == 1
    assert note["blend"]["cross_validated_best_single"] < 0.7
    assert "best single run" in out


def test_blending_a_run_with_its_copy_gains_nothing(runs: Path, podium: Podium, tmp_path: Path) -> None:
    shutil.copytree(runs / "one", runs / "copy")
    code, _, err = podium("blend", *COMPETITION, "--run-name", "one", "copy", "--name", "same")
    assert code == 0, err
    note = blend_note(tmp_path, "same")
    names = ("fitted_score", "cross_validated_score", "cross_validated_best_single")
    assert [note["blend"][name] for name in names] == [0.5] * 3
    assert sum(run["weight"] for run in note["runs"]) == pytest.approx(1)


def test_a_blend_is_the_weighted_mean_of_the_test_predictions(runs: Path, podium: Podium, tmp_path: Path) -> None:
    assert podium("train", *COMPETITION, *TRAIN, "--fold", "all", "--run-name", "three", "--seed", 5).code == 0
    replace_answers(runs / "three", lambda number: number % 2 == 1)
    assert podium("blend", *COMPETITION, "--run-name", "one", "three").code == 0
    expected = 0
    for run in blend_note(tmp_path)["runs"]:
        for fold in (0, 1):
            with np.load(runs / run["run"] / f"fold{fold}" / "test.npz") as kept:
                expected = expected + run["weight"] / 2 * kept["probabilities_tta"].astype(np.float64)
    with np.load(tmp_path / "submissions" / "food11" / "blend.npz") as kept:
        np.testing.assert_allclose(kept["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_a_blend_is_never_worse_than_its_best_run_on_the_data_it_was_fitted_to(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, NUM_CLASSES, 40)
    parts = [
        (0.6 * probabilities_of(truth, rng.random(40) < skill) + 0.4 * rng.dirichlet(np.ones(11), 40)).astype("float32")
        for skill in (0.3, 0.5, 0.6, 0.2)
    ]
    target = truth[:, None]
    weights = select(parts, target, food.COMPETITION, 20)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    mean = weighted_mean(parts, list(weights))
    best = max(quality(part, target, food.COMPETITION)[0] for part in parts)
    assert quality(mean, target, food.COMPETITION)[0] >= best
    by_rounds = [select(parts, target, food.COMPETITION, rounds) for rounds in range(1, 16)]
    assert by_rounds[0].max() == 1
    means = [weighted_mean(parts, list(weights)) for weights in by_rounds]
    scores = [quality(mean, target, food.COMPETITION)[0] for mean in means]
    assert scores[0] == best
    assert scores == sorted(scores)  # the best round is kept, not the last


def test_quality_is_the_score_and_the_log_likelihood() -> None:
    truth = np.array([3, 4, 5, 6])
    score, log_likelihood = quality(
        probabilities_of(truth, np.array([True, True, True, False])), truth[:, None], food.COMPETITION
    )
    assert score == 0.75
    assert log_likelihood == pytest.approx((3 * np.log(0.9) + np.log(0.42)) / 4, abs=1e-5)


def test_runs_scored_on_different_images_are_refused(runs: Path, podium: Podium) -> None:
    assert podium("prepare", *COMPETITION, "--split", "official").code == 0
    assert podium("train", *COMPETITION, *TRAIN, "--fold", "all", "--run-name", "official").code == 0
    code, _, err = podium("blend", *COMPETITION, "--run-name", "one", "official")
    assert code == 2
    assert "official and one were scored on different images" in err


@pytest.mark.parametrize("names", [(), ("one",), ("one", "one")])
def test_fewer_than_two_different_runs_are_refused(runs: Path, podium: Podium, names: tuple[str, ...]) -> None:
    code, _, err = podium("blend", *COMPETITION, "--run-name", *names)
    assert code == 2
    assert "two or more different runs" in err
    if names == ("one", "one"):
        code, _, err = podium("predict", *COMPETITION, "--run-name", *names)
        assert (code, err) == (2, "error: --run-name one one: names a run twice; leave one out\n")


def external_file(path: Path, folder: Path, right: Callable[[int], bool], **changes: Any) -> Path:
    """Write another tool's predictions for the labelled and the test images; `changes` replace arrays."""
    labels = table_at(folder, "labels").sort_values("image_path", ignore_index=True)
    truth = labels["category"].to_numpy()
    made = probabilities_of(truth, np.array([right(number) for number in range(len(truth))]))
    test = table_at(folder, "test")["image_path"].tolist()
    arrays = {
        "image_path": np.array([*labels["image_path"], *test]),
        "probabilities": np.concatenate([made, np.eye(NUM_CLASSES, dtype=np.float32)[[3] * len(test)]]),
    }
    np.savez(path, **(arrays | changes))
    return path


def test_predictions_of_another_tool_join_the_blend(runs: Path, podium: Podium, tmp_path: Path) -> None:
    other = external_file(tmp_path / "other.npz", runs, lambda number: number % 2 == 1)
    code, out, err = podium("blend", *COMPETITION, "--run-name", "one", "--external", other)
    assert code == 0, err
    assert "other.npz: 0.5000 out of fold" in out
    facts = blend_note(tmp_path)["runs"][1]
    assert facts["weight"] > 0
    assert Path(facts["external"]) == other
    code, out, err = podium("submit", *COMPETITION, "--name", "blend", "--by-hand")
    assert code == 0, err
    assert "out-of-fold accuracy" in out  # handed in like any other, with the other tool's file in its score
    with np.load(tmp_path / "submissions" / "food11" / "blend.npz") as kept:
        assert (kept["probabilities"][:, 3] > 0.9 * facts["weight"]).all()


WRONG_FILES = [
    ({"image_path": np.array(["a", "a"]), "probabilities": np.full((2, 11), 1 / 11)}, "a appears twice"),
    ({"image_path": np.array(["a"]), "probabilities": np.full((1, 11), 1 / 11)}, "no row for 20 of 20 held-out"),
    ({"image_path": np.array(["a"]), "probabilities": np.full((1, 10), 0.1)}, "(1, 11) are needed"),
    ({"image_path": np.array(["a"]), "probabilities": np.full((1, 11), 0.5)}, "row 0, a: is not finite, or not"),
]


def test_wrong_predictions_of_another_tool_are_refused(runs: Path, podium: Podium, tmp_path: Path) -> None:
    for changes, message in WRONG_FILES:
        other = external_file(tmp_path / "other.npz", runs, lambda _: True, **changes)
        code, _, err = podium("blend", *COMPETITION, "--run-name", "one", "--external", other)
        assert code == 2
        assert message in err
    (tmp_path / "cut.npz").write_bytes(other.read_bytes()[:300])
    code, _, err = podium("blend", *COMPETITION, "--run-name", "one", "--external", tmp_path / "cut.npz")
    assert code == 2
    assert "cut.npz: is not a complete .npz file" in err
    np.save(tmp_path / "array.npy", np.zeros(3))
    refused(
        podium("blend", *COMPETITION, "--run-name", "one", "--external", tmp_path / "array.npy"), "is not a complete"
    )
    refused(podium("blend", *COMPETITION, "--run-name", "one", "two", "--seed", -1), "--seed -1: must be at least 0")


def test_a_stack_answers_the_test_set_and_is_told_in_the_submission(runs: Path, podium: Podium, tmp_path: Path) -> None:
    code, out, err = podium("blend", *COMPETITION, "--run-name", "one", "two", "--stack")
    assert code == 0, err
    assert "weighted mean 1.0000" in out
    note = blend_note(tmp_path)
    assert note["blend"]["cross_validated_score"] == note["blend"]["cross_validated_mean"] == 1
    assert len(note["blend"]["stack"]["coefficients"]) == 3
    with np.load(tmp_path / "submissions" / "food11" / "blend.npz") as kept:
        np.testing.assert_allclose(kept["probabilities"].sum(axis=1), 1, atol=1e-5)
    code, out, err = podium("submit", *COMPETITION, "--name", "blend", "--by-hand")
    assert code == 0, err
    assert "out-of-fold accuracy" in out
