"""Calibration makes probabilities mean what they say; EM finds the shares of classes in a shifted test set."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from src.competitions.registry import load_competition
from src.competitions.spec import Head
from src.inference.adjusting import _corrected
from src.inference.calibration import (
    calibrated_out_of_fold,
    estimated_shares,
    fit_calibration,
    fit_head,
    with_shares,
)

CLASSES = 5
MEANS = 1.5 * np.eye(CLASSES)


def drawn(shares: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, K) that are exactly right where classes are equally frequent, and classes (N,)."""
    rng = np.random.default_rng(seed)
    target = rng.choice(CLASSES, count, p=shares)
    seen = MEANS[target] + rng.normal(size=(count, CLASSES))
    return softmax(seen @ MEANS, axis=1), target


EVEN = np.full(CLASSES, 1 / CLASSES)


def test_a_flattened_prediction_is_sharpened_and_a_tilted_one_set_right() -> None:
    chances, target = drawn(EVEN, 20_000)
    tilt = np.array([0.5, -0.5, 0, 0, 0])
    spoilt = softmax(0.5 * np.log(chances) + tilt, axis=1)
    fitted = fit_head(spoilt, target)
    assert fitted.slope == pytest.approx(2, abs=0.05)
    offsets = fitted.offsets - fitted.offsets[2:].mean()
    np.testing.assert_allclose(offsets, -2 * tilt, atol=0.1)
    assert np.abs(fitted(spoilt) - chances).mean() < 0.01


def test_what_is_right_stays_and_a_class_never_seen_stays_finite() -> None:
    chances, target = drawn(EVEN, 20_000)
    assert fit_head(chances, target).slope == pytest.approx(1, abs=0.03)
    few = target < 4
    fitted = fit_head(chances[few], target[few])
    assert np.isfinite(fitted.offsets).all()
    assert fitted.offsets[4] < fitted.offsets[:4].min()


def test_shares_of_a_shifted_test_set_are_found_and_the_correction_helps() -> None:
    shifted = np.array([0.6, 0.2, 0.1, 0.05, 0.05])
    chances, target = drawn(shifted, 4_000, seed=1)
    found = estimated_shares(chances, EVEN)
    np.testing.assert_allclose(found, shifted, atol=0.03)
    corrected = with_shares(chances, EVEN, found)
    before, after = ((one.argmax(axis=1) == target).mean() for one in (chances, corrected))
    assert after > before + 0.03
    np.testing.assert_allclose(corrected.sum(axis=1), 1, atol=1e-5)
    same, _ = drawn(EVEN, 4_000, seed=2)
    np.testing.assert_allclose(estimated_shares(same, EVEN), EVEN, atol=0.03)


def test_every_head_is_calibrated_without_the_groups_it_scores() -> None:
    svhn = load_competition("svhn")
    rng = np.random.default_rng(0)
    target = rng.integers(0, 11, (60, 6))
    predicted = softmax(2 * np.eye(11)[target] + rng.normal(size=(60, 6, 11)), axis=2).reshape(60, 66)
    groups = np.repeat(np.arange(30), 2)
    calibrated = calibrated_out_of_fold(predicted, target, svhn, groups)
    np.testing.assert_allclose(calibrated.reshape(60, 6, 11).sum(axis=2), 1, atol=1e-5)
    inside = fit_calibration(predicted, target, svhn)(predicted)
    assert np.abs(calibrated - inside).max() > 1e-4
    other = target.copy()
    other[:2] = (other[:2] + 1) % 11  # labels of the first group
    changed = calibrated_out_of_fold(predicted, other, svhn, groups)
    np.testing.assert_array_equal(changed[:2], calibrated[:2])
    assert not np.array_equal(changed[2:], calibrated[2:])


def test_classes_beside_a_number_are_calibrated_and_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    food = load_competition("food11")
    heads = (replace(food.heads[0], classes=tuple("abcde")), Head(name="age", kind="number"))
    both = replace(food, heads=heads, answer="heads", columns=("id",), metric="rmse", class_names=())
    chances, classes = drawn(EVEN, 500)
    predicted = np.concatenate([chances, np.zeros((500, 1))], axis=1).astype(np.float32)
    target = np.stack([classes, np.zeros(500)], axis=1).astype(np.float32)
    calibrated = fit_calibration(predicted, target, both)(predicted)
    np.testing.assert_allclose(calibrated[:, :5].sum(axis=1), 1, atol=1e-5)
    oof = SimpleNamespace(competition=both, target=target)
    assert _corrected(calibrated, predicted, oof)[0].shape == (500, 6)  # type: ignore[arg-type]
    assert "category: by EM" in capsys.readouterr().out
