"""Scores of one head or label, from how often each answer is given for each class: no image is looked at twice.

The values are scikit-learn's, which takes a hundred times as long for a thousand resamples; tests compare them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.competitions.metric import OfWeights

MAX_PAIRS = 4096  # of classes that are all counted, also those that no image has


@dataclass(frozen=True)
class Counts:
    """How often each pair of a true class and an answer occurs, (P,) each."""

    true: np.ndarray
    answer: np.ndarray
    count: np.ndarray  # float64
    num_classes: int

    def _sums(self, column: np.ndarray, count: np.ndarray) -> np.ndarray:
        return np.bincount(column, count, minlength=self.num_classes)

    @cached_property
    def of_true(self) -> np.ndarray:
        """(K,): images of each class."""
        return self._sums(self.true, self.count)

    @cached_property
    def of_answer(self) -> np.ndarray:
        """(K,): answers of each class."""
        return self._sums(self.answer, self.count)

    @cached_property
    def right(self) -> np.ndarray:
        """(K,): right answers of each class."""
        same = self.true == self.answer
        return self._sums(self.true[same], self.count[same])

    @property
    def total(self) -> float:
        return float(self.of_true.sum())


OfCounts = Callable[[Counts], float]


def score_of_weights(function: OfCounts, true: np.ndarray, answers: np.ndarray, num_classes: int) -> OfWeights:
    """Return the score of a head's classes (N,) as a function of how often each image counts (None: once)."""
    cell = true.astype(np.int64) * num_classes + answers.astype(np.int64)
    if num_classes**2 > MAX_PAIRS:
        keys, cell = np.unique(cell, return_inverse=True)
    else:
        keys = np.arange(num_classes**2)
    first, second = keys // num_classes, keys % num_classes

    def score(weight: np.ndarray | None) -> float:
        count = np.bincount(cell, weight, minlength=len(keys)).astype(np.float64)
        return function(Counts(first, second, count, num_classes))

    return score


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else math.nan


def mean_recall(counts: Counts) -> float:
    """Return the mean recall of the classes that are there or answered: 0 for one that is only answered."""
    seen = (counts.of_true > 0) | (counts.of_answer > 0)
    return float((counts.right[seen] / np.maximum(counts.of_true[seen], 1e-15)).mean())


def balanced_accuracy(counts: Counts) -> float:
    """Return the mean recall of the classes that are there."""
    there = counts.of_true > 0
    return float((counts.right[there] / counts.of_true[there]).mean())


def macro_f1(counts: Counts) -> float:
    """Return the mean F1 of the classes that are there or answered."""
    total = counts.of_true + counts.of_answer
    return float((2 * counts.right[total > 0] / total[total > 0]).mean())


def micro_f1(counts: Counts) -> float:
    """Return the share of right answers: of one class for each image it is the F1 of all classes together."""
    return _ratio(counts.right.sum(), counts.total)


def weighted_f1(counts: Counts) -> float:
    """Return the mean F1 of the classes, weighted by their images."""
    each = 2 * counts.right / np.maximum(counts.of_true + counts.of_answer, 1e-15)
    return _ratio(each @ counts.of_true, counts.total)


def kappa(counts: Counts) -> float:
    """Return Cohen's kappa, 1960; NaN if all images have one class and all answers are that."""
    expected = float(counts.of_true @ counts.of_answer / counts.total)
    return 1 - _ratio(counts.total - counts.right.sum(), counts.total - expected)


def quadratic_kappa(counts: Counts) -> float:
    """Return Cohen's weighted kappa, 1968, of squared distances between all grades, also those that no image has."""
    grades, total = np.arange(counts.num_classes), counts.total
    found = counts.count @ (counts.true - counts.answer) ** 2
    squares = (counts.of_true + counts.of_answer) @ grades**2
    expected = squares - 2 * (counts.of_true @ grades) * (counts.of_answer @ grades) / total
    return 1 - _ratio(found, expected)


def matthews(counts: Counts) -> float:
    """Return Matthews' correlation of true classes and answers, 0 if either are all the same (Gorodkin, 2004)."""
    true, answer, total = counts.of_true, counts.of_answer, counts.total
    spread = (total**2 - true @ true) * (total**2 - answer @ answer)
    return float((counts.right.sum() * total - true @ answer) / math.sqrt(spread)) if spread > 0 else 0.0


def roc_auc(true: np.ndarray, shares: np.ndarray) -> OfWeights:
    """Return how often one that is true has the higher probability than one that is not; equal ones count a half.

    scikit-learn's takes 4 to 20 times as long: minutes, for a thousand resamples of many labels.
    """
    rank = np.unique(shares, return_inverse=True)[1]

    def score(weight: np.ndarray | None) -> float:
        positive, all_ = _counts_at(rank, true, weight)
        negative = all_ - positive
        below = np.cumsum(negative) - negative / 2
        pairs = positive.sum() * negative.sum()
        return float(positive @ below / pairs) if pairs else math.nan

    return score


def average_precision(true: np.ndarray, shares: np.ndarray) -> OfWeights:
    """Return the mean precision at each true one, from the most probable down; equal probabilities are one step."""
    rank = np.unique(-shares, return_inverse=True)[1]

    def score(weight: np.ndarray | None) -> float:
        positive, all_ = _counts_at(rank, true, weight)
        if not 0 < positive.sum() < all_.sum():
            return math.nan
        precision = np.cumsum(positive) / np.maximum(np.cumsum(all_), 1e-15)
        return float(positive @ precision / positive.sum())

    return score


def _counts_at(rank: np.ndarray, true: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return how many images of each rank are true, and how many there are."""
    return np.bincount(rank, true if weight is None else weight * true), np.bincount(rank, weight)
