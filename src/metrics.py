"""What a score is: the only place that knows."""

import numpy as np

from src.competitions.spec import Competition
from src.models.heads import most_probable

CHUNK = 4096  # images scored at a time: for strings, float64 of all outputs are made


def exact_matches(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N,) bool: whether all heads are right; probabilities (N, num_outputs), target (N, num_heads)."""
    right = np.empty(len(target), bool)
    for start in range(0, len(target), CHUNK):
        part = slice(start, start + CHUNK)
        right[part] = (most_probable(probabilities[part], competition) == target[part]).all(axis=1)
    return right


def score_of(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> float:
    """Return the share of images that are answered exactly; greater is better."""
    return float(exact_matches(probabilities, target, competition).mean())
