"""Suspicious labels, calibration and coverage, from predictions written by hand."""

import numpy as np
import pytest

from src.competitions.spec import Head
from src.report.calibration import _calibration, accuracy_by_share, shares_at
from src.report.suspects import _of_head, confident_suspects


def test_a_label_is_suspected_if_another_class_is_as_sure_as_usual() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    sure = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.45, 0.9])  # of class 0
    found = confident_suspects(np.stack([sure, 1 - sure], axis=1), labels)
    # Usual are 0.6 for class 0 and 0.5875 for class 1: the third image is a 1, the last a 0; the sixth is unsure.
    assert np.flatnonzero(found).tolist() == [2, 6]


def test_a_label_that_is_as_probable_as_usual_is_not_suspected() -> None:
    labels = np.array([0, 0, 1, 1])
    sure = np.array([0.45, 0.35, 0.05, 0.1])  # usual are 0.4 for class 0 and 0.925 for class 1
    assert np.flatnonzero(confident_suspects(np.stack([sure, 1 - sure], axis=1), labels)).tolist() == []


def test_a_class_without_images_suspects_nothing() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert not confident_suspects(probabilities, np.array([0, 0, 1])).any()


def test_labels_grades_and_numbers_are_suspected_too() -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 2, (40, 2))
    predicted = np.where(given == 1, 0.9, 0.1).astype(np.float32)
    given[3, 1] = 1 - given[3, 1]
    suspected, fits = _of_head(Head(name="labels", classes=("a", "b"), kind="labels"), predicted, given)
    assert np.flatnonzero(suspected).tolist() == [3]
    assert fits[3] == pytest.approx(0.1)
    grades = np.arange(40)[:, None] % 3
    above = np.where(grades > np.arange(2), 0.95, 0.05).astype(np.float32)
    grades[5] = 0 if grades[5] else 2
    assert np.flatnonzero(_of_head(Head(name="g", classes=("0", "1", "2"), kind="ordinal"), above, grades)[0]) == [5]
    truth = np.linspace(0, 9, 40)[:, None]
    answers = truth + rng.normal(0, 0.1, truth.shape)
    truth[7] += 5
    suspected, fits = _of_head(Head(name="n", kind="number", scale=(4.0, 2.0)), answers, truth)
    assert suspected[7]
    assert fits.argmin() == 7


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy() -> None:
    confidence = np.array([0.9] * 10 + [0.5] * 30)
    right = np.array([True] * 7 + [False] * 3 + [True] * 15 + [False] * 15)
    found = _calibration("", confidence, right)
    assert found.bins["images"].tolist() == [30, 10]
    assert found.error == pytest.approx(0.2 * 10 / 40)


def test_accuracy_against_share_answers_equally_sure_images_together() -> None:
    confidence, right = np.array([0.5, 0.9, 0.5, 0.9]), np.array([False, True, True, True])
    shares, accuracy = accuracy_by_share(confidence, right)
    assert (shares.tolist(), accuracy.tolist()) == ([0.5, 1.0], [1.0, 0.75])
    assert shares_at(confidence, right) == [(0.99, 0.5), (0.98, 0.5), (0.95, 0.5), (0.9, 0.5), (0.8, 0.5)]
    assert shares_at(np.array([0.9, 0.1]), np.array([False, False]))[0] == (0.99, 0.0)
