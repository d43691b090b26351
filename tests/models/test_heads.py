"""Loss, probabilities, and the most probable legal answer."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.competitions import decision, food11, svhn
from src.competitions.decision import decide
from src.competitions.layout import HeadLayout
from src.competitions.spec import Competition, Head
from src.metrics import score_of
from src.models.heads import probabilities_of
from src.training.losses import loss_of


def competition(num_heads: int, classes: str, pad_class: int | None) -> Competition:
    """Return a competition whose answers have up to `num_heads` of the letters `classes`."""
    texts = tuple("" if class_id == pad_class else letter for class_id, letter in enumerate(classes))
    return Competition(
        name="letters",
        image_size=(8, 8),
        hflip_ok=False,
        read_train=lambda files: pd.DataFrame(),
        read_test=lambda files: pd.DataFrame(),
        columns=("id", "answer"),
        heads=tuple(Head(name=f"letter{position}", classes=texts) for position in range(num_heads)),
        pad_class=pad_class,
    )


def random_probabilities(seed: int, count: int, num_heads: int, num_classes: int) -> np.ndarray:
    """Return (count, num_heads * num_classes) float32: a random distribution for each head."""
    draws = np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.4), (count, num_heads))
    return draws.reshape(count, -1).astype(np.float32)


def best_string(row: np.ndarray, num_heads: int, num_classes: int, pad_class: int) -> float:
    """Return the log-probability of the best legal string, found by trying all."""
    logs = np.log(row.reshape(num_heads, num_classes).astype(np.float64) + 1e-12)
    letters = [one for one in range(num_classes) if one != pad_class]
    return max(
        sum(logs[position, one] for position, one in enumerate((*string, *[pad_class] * (num_heads - length))))
        for length in range(1, num_heads + 1)
        for string in itertools.product(letters, repeat=length)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_cross_entropy_over_heads_and_images(smoothing: float) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0], [1.5, 0.3, -0.2, 0.7, 0.1]])
    target = torch.tensor([[0, 2], [1, 1]])
    expected = []
    for row, ids in zip(logits.tolist(), target.tolist(), strict=True):
        for part, true in ((row[:2], ids[0]), (row[2:], ids[1])):
            logs = [value - math.log(sum(map(math.exp, part))) for value in part]
            expected.append(-(1 - smoothing) * logs[true] - smoothing * sum(logs) / len(logs))
    assert loss_of(logits, target, HeadLayout((2, 3)), "cross_entropy", smoothing).item() == pytest.approx(
        sum(expected) / 4, abs=1e-6
    )


def test_probabilities_are_a_softmax_for_each_head() -> None:
    logits = torch.randn(5, 66, generator=torch.Generator().manual_seed(0)) * 5
    probabilities = probabilities_of(logits, svhn.COMPETITION.layout)
    assert probabilities.shape == (5, 66)
    assert probabilities.dtype == torch.float32
    parts = probabilities.view(5, 6, 11)
    assert torch.allclose(parts.sum(dim=2), torch.ones(5, 6), atol=1e-6)
    assert torch.allclose(parts.log().diff(dim=2), logits.view(5, 6, 11).diff(dim=2), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_heads=st.integers(1, 4), pad_class=st.integers(0, 3))
def test_no_legal_string_is_more_probable(seed: int, num_heads: int, pad_class: int) -> None:
    letters = competition(num_heads, "abcd", pad_class)
    probabilities = random_probabilities(seed, 4, num_heads, 4)
    answers = decide(probabilities, letters)
    for row, ids in zip(probabilities, answers, strict=True):
        logs = np.log(row.reshape(num_heads, 4).astype(np.float64) + 1e-12)
        found = sum(logs[position, one] for position, one in enumerate(ids))
        assert found == pytest.approx(best_string(row, num_heads, 4, pad_class))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_digit_follows_padding_and_no_answer_is_empty(seed: int) -> None:
    answers = decide(random_probabilities(seed, 16, 6, 11), svhn.COMPETITION)
    is_padding = answers == svhn.PAD_CLASS
    assert not is_padding[:, 0].any()
    assert (np.diff(is_padding.astype(int), axis=1) >= 0).all()


def test_an_answer_is_not_empty_even_if_all_heads_predict_padding() -> None:
    probabilities = np.full((1, 6, 11), 0.001, np.float32)
    probabilities[:, :, svhn.PAD_CLASS] = 0.99
    probabilities[:, 0, 7] = 0.009
    assert decide(probabilities.reshape(1, 66), svhn.COMPETITION).tolist() == [[7, *[svhn.PAD_CLASS] * 5]]


def test_an_uncertain_digit_before_certain_ones_is_kept() -> None:
    probabilities = np.full((1, 6, 11), 1e-6, np.float32)
    probabilities[0, 0, 1] = probabilities[0, 2, 3] = 0.99
    probabilities[0, 1, svhn.PAD_CLASS], probabilities[0, 1, 2] = 0.55, 0.45
    probabilities[0, 3:, svhn.PAD_CLASS] = 0.99
    assert decide(probabilities.reshape(1, 66), svhn.COMPETITION)[0, :4].tolist() == [1, 2, 3, svhn.PAD_CLASS]


def test_without_a_pad_class_heads_are_independent() -> None:
    probabilities = random_probabilities(3, 20, 1, 11)
    answers = decide(probabilities, food11.COMPETITION)
    assert answers.tolist() == probabilities.argmax(axis=1)[:, None].tolist()
    pair = competition(2, "abc", None)
    both = random_probabilities(4, 20, 2, 3)
    assert decide(both, pair).tolist() == both.reshape(20, 2, 3).argmax(axis=2).tolist()


def test_an_image_counts_only_if_all_heads_are_right() -> None:
    probabilities = np.zeros((3, 6, 11), np.float32)
    target = np.array([[1, 2, 10, 10, 10, 10], [3, 10, 10, 10, 10, 10], [4, 5, 6, 10, 10, 10]])
    predicted = target.copy()
    predicted[1, 0], predicted[2, 2] = 9, 7
    np.put_along_axis(probabilities, predicted[:, :, None], 1, axis=2)
    assert score_of(probabilities.reshape(3, 66), target, svhn.COMPETITION) == pytest.approx(1 / 3)


def test_many_images_are_decided_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = random_probabilities(5, 20, 6, 11)
    expected = decide(probabilities, svhn.COMPETITION)
    monkeypatch.setattr(decision, "CHUNK", 7)
    assert np.array_equal(decide(probabilities, svhn.COMPETITION), expected)


def test_a_layout_gives_each_heads_outputs() -> None:
    layout = HeadLayout((2, 3, 1))
    assert layout.starts == (0, 2, 5)
    assert layout.num_outputs == 6
    values = np.arange(12).reshape(2, 6)
    assert [part.tolist() for part in layout.split(values)] == [[[0, 1], [6, 7]], [[2, 3, 4], [8, 9, 10]], [[5], [11]]]


def test_the_focal_loss_gives_confident_predictions_less_weight() -> None:
    logits, target, layout = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[0], [0]]), HeadLayout((2,))
    right, wrong = (1 / (1 + math.exp(-sign * 2)) for sign in (1, -1))
    expected = [-((1 - p) ** 2) * math.log(p) for p in (right, wrong)]
    assert loss_of(logits, target, layout, "focal").item() == pytest.approx(sum(expected) / 2, abs=1e-6)
