"""What a score is."""

import numpy as np

from src.competitions.spec import Competition
from src.models.heads import most_probable


def exact_matches(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N,) bool: whether all heads are right. Its mean is the score."""
    return (most_probable(probabilities, competition) == target).all(axis=1)
