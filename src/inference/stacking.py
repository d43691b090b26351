"""A small model on top of several runs: which of their answers is right, judged by how probable each run finds it.

The candidates of a string are the answers of each run and of their weighted mean; those of a single class are all
classes. A logistic regression learns from the out-of-fold predictions how much each run's log-probability of a
candidate says, so it can trust a run only when that run is confident, which fixed weights cannot.

Source: Wolpert, Stacked Generalization, 1992.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.competitions.decision import decide
from src.competitions.spec import Competition
from src.core.errors import InputError
from src.inference.ensemble import weighted_mean

SMALLEST = 1e-6  # probability whose logarithm is taken
LEAST_REST = 0.02  # share that the weighted mean keeps beside the candidates
STRENGTH = 0.3  # C of the logistic regression


def check_stackable(competition: Competition) -> None:
    """Raise InputError unless an answer is one class, or a string of classes."""
    kinds = {head.kind for head in competition.heads}
    if kinds != {"class"} or (len(competition.heads) > 1 and not competition.is_string) or competition.none_class:
        raise InputError(f"--stack: {competition.name} does not answer with one class or a string of classes")


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What might be the answer of each image, and what speaks for it."""

    competition: Competition
    mean: np.ndarray  # (N, num_outputs), the weighted mean
    parts: Sequence[np.ndarray]  # (N, num_outputs) of each run

    @cached_property
    def answers(self) -> np.ndarray:
        """(N, K, num_heads) int64; of strings, some are the same."""
        if not self.competition.is_string:
            classes = np.arange(self.competition.heads[0].num_classes)
            return np.tile(classes[None, :, None], (len(self.mean), 1, 1))
        return np.stack([decide(one, self.competition) for one in (self.mean, *self.parts)], axis=1)

    def features(self) -> np.ndarray:
        """Return (N * K, runs + 1): the log-probability of each candidate by the mean and by each run."""
        found = [self._log_probability(one) for one in (self.mean, *self.parts)]
        return np.stack(found, axis=2).reshape(-1, len(found))

    def _log_probability(self, predicted: np.ndarray) -> np.ndarray:
        """Return (N, K); what follows the first pad class counts for nothing, as it says the same again."""
        logs = np.log(np.maximum(np.stack(self.competition.layout.split(predicted), axis=1), SMALLEST))
        picked = np.take_along_axis(logs[:, None], self.answers[..., None], axis=3)[..., 0]
        if self.competition.pad_class is not None:
            ended = (self.answers == self.competition.pad_class)[:, :, :-1]
            picked[:, :, 1:][ended] = 0
        summed: np.ndarray = picked.sum(axis=2)
        return summed

    def repeated(self) -> np.ndarray:
        """Return (N, K) bool: whether an earlier candidate is the same answer."""
        same = (self.answers[:, :, None] == self.answers[:, None]).all(axis=3)
        return np.tril(same, -1).any(axis=2)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A fitted model."""

    weights: np.ndarray  # (R,) of the mean
    coefficients: np.ndarray  # (R + 1,) of the mean's log-probability and of each run's
    intercept: float

    def describe(self) -> dict[str, list[float] | float]:
        """Return what the submission's JSON says of it."""
        return {"coefficients": self.coefficients.tolist(), "intercept": self.intercept}

    def __call__(self, parts: Sequence[np.ndarray], competition: Competition) -> np.ndarray:
        """Return probabilities (N, num_outputs) float32 of the runs' predictions, in the order of fitting.

        Each candidate counts as much as the model holds it to be right; the mean gets the rest.
        """
        mean = weighted_mean(parts, list(self.weights))
        candidates = Candidates(competition=competition, mean=mean, parts=parts)
        answers = candidates.answers
        right = 1 / (1 + np.exp(-(candidates.features() @ self.coefficients + self.intercept)))
        shares = np.where(candidates.repeated(), 0, right.reshape(answers.shape[:2]))
        rest = np.maximum(LEAST_REST, 1 - shares.sum(axis=1))
        total, rows = shares.sum(axis=1) + rest, np.arange(len(mean))
        stacked = mean * (rest / total)[:, None]
        for head, start in enumerate(competition.layout.starts):
            for number in range(answers.shape[1]):
                stacked[rows, start + answers[:, number, head]] += shares[:, number] / total
        return stacked.astype(np.float32)


def fit_stack(parts: Sequence[np.ndarray], weights: np.ndarray, target: np.ndarray, competition: Competition) -> Stack:
    """Fit on out-of-fold predictions (N, num_outputs) of each run; weights (R,) of the mean; target (N, num_heads)."""
    candidates = Candidates(competition=competition, mean=weighted_mean(parts, list(weights)), parts=parts)
    features = candidates.features()
    right = (candidates.answers == target[:, None]).all(axis=2).ravel()
    if right.all() or not right.any():  # nothing to learn
        return Stack(weights=weights, coefficients=np.eye(len(parts) + 1)[0], intercept=0.0)
    centre, scale = features.mean(axis=0), features.std(axis=0) + SMALLEST
    from sklearn.linear_model import LogisticRegression  # half a second, and few commands need it

    model = LogisticRegression(C=STRENGTH, max_iter=2000).fit((features - centre) / scale, right)
    coefficients = model.coef_[0] / scale
    return Stack(
        weights=weights, coefficients=coefficients, intercept=float(model.intercept_[0] - coefficients @ centre)
    )
