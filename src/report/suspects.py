"""Labels that are probably wrong, by confident learning on out-of-fold predictions.

Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021. A label is
suspected if another class is as probable as is usual for the images of that class, and the most probable one is another
than the label. Numbers are suspected if their error is far from usual (Iglewicz and Hoaglin's modified z-score, 1993).
"""

import numpy as np
import pandas as pd

from src.competitions.decision import class_probabilities
from src.competitions.spec import Head
from src.data.relabel import label_text
from src.inference.ensemble import OutOfFold

MAX_SCORE = 3.5  # modified z-score beyond which a number is an outlier
GOOD_SHARE = 0.75  # of right answers, below which most suspected labels are the network's mistakes
MAD_TO_SD = 0.6745  # median absolute deviation of a standard normal distribution


def confident_suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N,) bool: which labels are suspected, from probabilities (N, K) and class ids (N,)."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    usual = np.bincount(labels, weights=own, minlength=len(counts)) / np.maximum(counts, 1)
    is_usual = (probabilities >= usual) & (counts > 0)
    likeliest = np.where(is_usual, probabilities, -1.0).argmax(axis=1)
    suspected: np.ndarray = is_usual.any(axis=1) & (likeliest != labels) & (probabilities.argmax(axis=1) != labels)
    return suspected


def _of_head(head: Head, predicted: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which labels of a head are suspected and how well each fits, both (N,): the probability of the label, or
    of a number the share of usual errors that are larger."""
    if head.kind == "number":
        error = np.abs(predicted[:, 0].astype(np.float64) - target[:, 0])
        spread = max(float(np.median(error)), 1e-12)
        return MAD_TO_SD * error / spread > MAX_SCORE, np.exp(-error / spread)
    shares = class_probabilities(predicted, head).astype(np.float64)
    if head.kind == "labels":
        suspected, fits = np.zeros(len(target), bool), np.ones(len(target))
        for column in range(head.num_classes):
            both, own = np.stack([1 - shares[:, column], shares[:, column]], axis=1), target[:, column].astype(np.int64)
            here = confident_suspects(both, own)
            suspected |= here
            fits = np.where(here, np.minimum(fits, both[np.arange(len(own)), own]), fits)
        return suspected, fits
    ids = target[:, 0].astype(np.int64)
    return confident_suspects(shares, ids), shares[np.arange(len(ids)), ids]


def suspects_are_weak(oof: OutOfFold) -> bool:
    """Return whether so few answers are right that most suspected labels will be right too."""
    return bool(oof.right.mean() < GOOD_SHARE) and "number" not in oof.competition.layout.kinds


def suspects(oof: OutOfFold) -> pd.DataFrame:
    """Return the suspected labels, the least probable first: image_path, fold, label, suggestion (the network's
    answer), heads (those suspected) and probability_of_label (the least of those heads; of a number exp(-error in
    median errors))."""
    layout, heads = oof.competition.layout, oof.competition.heads
    of_heads = [
        _of_head(head, predicted, target)
        for head, predicted, target in zip(
            heads, layout.split(oof.probabilities), layout.split_targets(oof.target), strict=True
        )
    ]
    flagged = np.stack([suspected for suspected, _ in of_heads], axis=1)  # (N, heads)
    fits = np.where(flagged, np.stack([fit for _, fit in of_heads], axis=1), 1.0).min(axis=1)
    rows = np.flatnonzero(flagged.any(axis=1) & ~oof.right)
    names = np.array([head.name for head in heads])
    table = pd.DataFrame(
        {
            "image_path": oof.labels["image_path"].to_numpy()[rows],
            "fold": oof.labels["fold"].to_numpy()[rows],
            "label": [label_text(values, oof.competition) for values in oof.target[rows].tolist()],
            "suggestion": [label_text(values, oof.competition) for values in oof.answers[rows].tolist()],
            "heads": [" ".join(names[row]) for row in flagged[rows]],
            "probability_of_label": fits[rows].round(6),
        }
    )
    return table.sort_values(["probability_of_label", "image_path"], ignore_index=True)
