"""The stack: which candidates there are, what speaks for them, and what is made of it."""

from dataclasses import replace

import numpy as np
import pytest

from src.competitions.registry import load_competition
from src.core.errors import InputError
from src.inference.stacking import Candidates, check_stackable, fit_stack

SVHN = load_competition("svhn")
PAD = 10


def strings(*texts: str, sure: float = 0.9) -> np.ndarray:
    """Return (N, 66) predictions: each place of a text with this probability, the rest shared by the others."""
    made = np.full((len(texts), 6, 11), (1 - sure) / 10, np.float32)
    for row, text in enumerate(texts):
        for place in range(6):
            made[row, place, int(text[place]) if place < len(text) else PAD] = sure
    return made.reshape(len(texts), -1)


def target_of(*texts: str) -> np.ndarray:
    return np.array([[int(text[place]) if place < len(text) else PAD for place in range(6)] for text in texts])


def test_candidates_are_the_runs_answers_and_padding_counts_once() -> None:
    first, second = strings("12", sure=0.9), strings("123", sure=0.8)
    found = Candidates(competition=SVHN, mean=(first + second) / 2, parts=[first, second])
    assert found.answers.tolist() == target_of("12", "12", "123")[None].tolist()
    assert found.repeated().tolist() == [[False, True, False]]
    features = found.features()
    assert features[0, 1] == pytest.approx(3 * np.log(0.9))  # 1, 2 and the first pad
    assert features[2, 2] == pytest.approx(4 * np.log(0.8))


def test_a_run_is_believed_where_it_is_sure() -> None:
    """The careful run is right where it is sure and says nothing elsewhere; the bold one is always as sure."""
    rng = np.random.default_rng(0)
    truth = ["".join(map(str, rng.integers(0, 10, rng.integers(1, 6)))) for _ in range(300)]
    other = [str((int(text[0]) + 1) % 10) + text[1:] for text in truth]
    careful = np.where(np.arange(300)[:, None] % 2 == 0, strings(*truth, sure=0.97), strings(*other, sure=0.2))
    bold = np.where(np.arange(300)[:, None] % 2 == 1, strings(*truth, sure=0.8), strings(*other, sure=0.8))
    parts, target = [careful, bold], target_of(*truth)
    stack = fit_stack([part[:200] for part in parts], np.array([0.1, 0.9]), target[:200], SVHN)
    stacked = stack([part[200:] for part in parts], SVHN)
    answers = Candidates(competition=SVHN, mean=stacked, parts=[]).answers[:, 0]
    assert (answers == target[200:]).all()
    np.testing.assert_allclose(stacked.reshape(-1, 6, 11).sum(axis=2), 1, atol=1e-5)


def test_of_single_classes_every_class_is_a_candidate() -> None:
    food = load_competition("food11")
    rng = np.random.default_rng(0)
    target = rng.integers(0, 11, (400, 1))
    noise = [rng.normal(size=(400, 11)) + 2 * np.eye(11)[target[:, 0]] for _ in range(2)]
    parts = [(np.exp(one) / np.exp(one).sum(axis=1, keepdims=True)).astype(np.float32) for one in noise]
    stack = fit_stack([part[:300] for part in parts], np.array([0.5, 0.5]), target[:300], food)
    stacked = stack([part[300:] for part in parts], food)
    best = max(float((part[300:].argmax(axis=1) == target[300:, 0]).mean()) for part in parts)
    assert (stacked.argmax(axis=1) == target[300:, 0]).mean() > best
    np.testing.assert_allclose(stacked.sum(axis=1), 1, atol=1e-5)


def test_where_all_is_right_the_mean_answers() -> None:
    parts = [strings("7", "42"), strings("7", "42", sure=0.7)]
    stack = fit_stack(parts, np.array([1.0, 0.0]), target_of("7", "42"), SVHN)
    assert stack.coefficients.tolist() == [1, 0, 0]


def test_other_answers_are_refused() -> None:
    check_stackable(SVHN)
    labels = replace(SVHN, heads=(replace(SVHN.heads[0], kind="labels"),), pad_class=None)
    with pytest.raises(InputError, match="does not answer with one class or a string"):
        check_stackable(labels)
