"""Whether a probability means what it says, and what may be answered with how many mistakes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.inference.ensemble import OutOfFold
from src.inference.quality import likelihood_losses

NUM_BINS = 15
NUM_POINTS = 200  # of the curve of accuracy against share answered
GOALS = (0.99, 0.98, 0.95, 0.9, 0.8)  # accuracies whose share is told


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A reliability diagram and its expected calibration error (Guo et al., 2017)."""

    what: str  # what the probabilities are of
    bins: pd.DataFrame  # confidence (mean), right (share), images
    error: float  # mean distance of both, weighted by images


def confidences(oof: OutOfFold) -> np.ndarray:
    """Return (N,): the probability of each whole answer; of numbers exp(-error in standard deviations)."""
    of = oof.target if "number" in oof.competition.layout.kinds else oof.answers
    found: np.ndarray = np.exp(-likelihood_losses(oof.probabilities, of, oof.competition))
    return found


def calibration(oof: OutOfFold) -> Calibration | None:
    """Return how far the probability of an answer is from how often it is right; of labels, that of each label."""
    kinds = set(oof.competition.layout.kinds)
    if "number" in kinds:
        return None
    if kinds == {"labels"}:
        return _calibration("each label", oof.probabilities.ravel(), oof.target.ravel() == 1)
    return _calibration("the whole answer", confidences(oof), oof.right)


def _calibration(what: str, confidence: np.ndarray, right: np.ndarray) -> Calibration:
    number = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    table = pd.DataFrame({"bin": number, "confidence": confidence, "right": right.astype(float)})
    bins = table.groupby("bin").agg(
        confidence=("confidence", "mean"), right=("right", "mean"), images=("right", "size")
    )
    gaps = (bins["confidence"] - bins["right"]).abs()
    return Calibration(what=what, bins=bins.reset_index(), error=float((gaps * bins["images"]).sum() / len(table)))


def accuracy_by_share(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shares answered, the most confident images first, and the accuracy of each; equally confident images are
    answered together."""
    order = np.argsort(-confidence, kind="stable")
    ranked, correct = confidence[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    accuracy = correct[ends] / (ends + 1)
    picked = np.unique(np.linspace(0, len(ends) - 1, NUM_POINTS).round().astype(int)) if len(ends) else ends
    return (ends[picked] + 1) / len(order), accuracy[picked]


def shares_at(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float]]:
    """Return (accuracy, largest share that may be answered with it) for GOALS that are above the accuracy of all."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] != ranked[:-1], True)
    found = []
    for goal in GOALS:
        enough = np.flatnonzero((accuracy >= goal) & ends)
        if len(order) and goal > right.mean():
            found.append((goal, float((enough[-1] + 1) / len(order)) if len(enough) else 0.0))
    return found
