"""From predictions (N, num_outputs) to answers, head by head; without torch, which prepare does not need."""

from dataclasses import dataclass

import numpy as np

from src.competitions.spec import Competition, Head

CHUNK = 4096  # images decided at a time


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How predictions become answers, where it is fitted: a tuple of each head, empty for the rule without fitting.

    labels: the probability of each label from which it is given; ordinal: the mean grades from which the next grade is
    given; class, if the competition has a none_class: the probability that it takes at least.
    """

    cuts: tuple[tuple[float, ...], ...] = ()

    def of(self, head: int) -> np.ndarray:
        """Return the cuts of a head, (n,)."""
        return np.array(self.cuts[head] if self.cuts else ())


def grade_probabilities(above: np.ndarray) -> np.ndarray:
    """Return (N, K) probabilities of K grades from those, (N, K - 1), that the grade is above each but the last."""
    falling = np.minimum.accumulate(above, axis=1)  # each head output learns on its own: they may cross
    edges = np.pad(falling, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    shares: np.ndarray = edges[:, :-1] - edges[:, 1:]
    return shares


def class_probabilities(predicted: np.ndarray, head: Head) -> np.ndarray:
    """Return (N, num_classes) of a head's predictions (N, num_outputs): of a class or an ordinal head, or of labels."""
    return grade_probabilities(predicted) if head.kind == "ordinal" else predicted


def _answer(predicted: np.ndarray, head: Head, cuts: np.ndarray, none_class: str) -> np.ndarray:
    """Return (N, number of targets) of one head."""
    if head.kind == "number":
        return predicted.astype(np.float64)
    if head.kind == "ordinal":
        above = predicted > 0.5 if not len(cuts) else predicted.sum(axis=1, keepdims=True) > cuts
        return above.sum(axis=1, keepdims=True)
    if head.kind == "labels":
        chosen = predicted > (cuts if len(cuts) else 0.5)
        if head.required:
            nearest = (predicted - (cuts if len(cuts) else 0.5)).argmax(axis=1)
            chosen[np.arange(len(chosen)), nearest] |= ~chosen.any(axis=1)
        return chosen.astype(np.int64)
    best: np.ndarray = with_none(predicted, head, cuts, none_class).argmax(axis=1)
    return best[:, None]


def with_none(predicted: np.ndarray, head: Head, cuts: np.ndarray, none_class: str) -> np.ndarray:
    """Return class probabilities (N, num_classes), that of the none_class raised to its fitted cut."""
    if not len(cuts):
        return predicted
    raised = predicted.copy()
    column = head.classes.index(none_class)
    raised[:, column] = np.maximum(raised[:, column], cuts[0])
    return raised


def decide(predicted: np.ndarray, competition: Competition, rule: Rule | None = None) -> np.ndarray:
    """Return the answers, (N, num_targets), from predictions (N, num_outputs): class ids, 0 or 1 of each label, grades
    (int64), or float64 if an answer is a number."""
    if competition.pad_class is not None:
        return most_probable(predicted, competition)
    rule, parts = rule or Rule(), competition.layout.split(predicted)
    return np.concatenate(
        [
            _answer(part, head, rule.of(number), competition.none_class)
            for number, (head, part) in enumerate(zip(competition.heads, parts, strict=True))
        ],
        axis=1,
    )


def most_probable(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N, num_heads) int64 class ids, as `_strings` does of some images at a time: it makes float64 of all."""
    starts = range(0, max(1, len(probabilities)), CHUNK)
    return np.concatenate([_strings(probabilities[start : start + CHUNK], competition) for start in starts])


def _strings(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N, num_heads) int64 class ids of the most probable legal string; probabilities (N, num_outputs).

    Only strings of one or more classes followed by padding are legal: the most probable over all lengths is taken, so
    that no class ever follows the pad class.
    """
    parts = competition.layout.split(probabilities)
    assert competition.pad_class is not None
    logs = np.log(np.stack(parts, axis=1).astype(np.float64) + 1e-12)  # (N, num_heads, num_classes)
    pad = logs[:, :, competition.pad_class].copy()
    logs[:, :, competition.pad_class] = -np.inf
    ids, filled = logs.argmax(axis=2), logs.max(axis=2)
    num_heads = ids.shape[1]
    by_length = [filled[:, :length].sum(axis=1) + pad[:, length:].sum(axis=1) for length in range(1, num_heads + 1)]
    length = np.argmax(by_length, axis=0) + 1
    return np.where(np.arange(num_heads) < length[:, None], ids, competition.pad_class)
