"""What a score is: the only place that knows."""

import numpy as np

from src.competitions.spec import Competition
from src.models.heads import most_probable


def exact_matches(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N,) bool: whether all heads are right; probabilities (N, num_outputs), target (N, num_heads)."""
    return (most_probable(probabilities, competition) == target).all(axis=1)


def score_of(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> float:
    """Return the share of images that are answered exactly; greater is better."""
    return float(exact_matches(probabilities, target, competition).mean())
