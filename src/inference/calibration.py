"""Calibration of class probabilities on out-of-fold predictions.

Each head's log-probabilities get one slope (temperature) and an offset for each class. On probabilities that are
calibrated like this, the shares of classes in a test set can be estimated by EM, and predictions corrected for them.

Sources: Alexandari et al., Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
Adaptation, 2020; Saerens et al., Adjusting the Outputs of a Classifier to New a Priori Probabilities, 2002.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from src.competitions.spec import Competition
from src.inference.quality import parts_of_groups

SMALLEST = 1e-9  # probability whose logarithm is taken
EM_ROUNDS, EM_ENOUGH = 1000, 1e-7


@dataclass(frozen=True)
class HeadCalibration:
    """Of one head of kind class."""

    slope: float
    offsets: np.ndarray  # (num_classes,)

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Return (N, num_classes) probabilities of predictions of the same shape."""
        return softmax(self.slope * _logs(predicted) + self.offsets, axis=1).astype(np.float32)


def _logs(predicted: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(predicted.astype(np.float64), SMALLEST))


def fit_head(predicted: np.ndarray, target: np.ndarray) -> HeadCalibration:
    """Return slope and offsets with the highest likelihood; predicted (N, num_classes), target (N,) class ids.

    A standard normal prior around 1 and 0 keeps the offsets of rare classes small.
    """
    start = np.eye(1 + predicted.shape[1])[0]
    logs, rows = _logs(predicted), np.arange(len(predicted))
    shares = np.bincount(target, minlength=predicted.shape[1]) / len(target)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scores = values[0] * logs + values[1:]
        likelihood = log_softmax(scores, axis=1)[rows, target].mean()
        chances = softmax(scores, axis=1)
        of_slope = (chances * logs).sum(axis=1).mean() - logs[rows, target].mean()
        pull = (values - start) / len(target)
        slopes = np.concatenate([[of_slope], chances.mean(axis=0) - shares])
        return -likelihood + pull @ (values - start) / 2, slopes + pull

    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return HeadCalibration(float(found[0]), found[1:])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of all heads; those that are not of kind class stay as they are."""

    competition: Competition
    heads: tuple[HeadCalibration | None, ...]

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Return (N, num_outputs) float32."""
        parts = self.competition.layout.split(predicted)
        return np.concatenate([fit(part) if fit else part for fit, part in zip(self.heads, parts, strict=True)], axis=1)


def fit_calibration(predicted: np.ndarray, target: np.ndarray, competition: Competition) -> Calibration:
    """Fit on out-of-fold predictions (N, num_outputs) and target (N, num_targets)."""
    parts, targets = competition.layout.split(predicted), competition.layout.split_targets(target)
    heads = [
        fit_head(part, own[:, 0].astype(np.int64)) if head.kind == "class" else None
        for head, part, own in zip(competition.heads, parts, targets, strict=True)
    ]
    return Calibration(competition=competition, heads=tuple(heads))


def calibrated_out_of_fold(
    predicted: np.ndarray, target: np.ndarray, competition: Competition, groups: np.ndarray
) -> np.ndarray:
    """Return (N, num_outputs), each image calibrated by what was fitted without its group; groups (N,)."""
    part_of = parts_of_groups(groups)
    calibrated = predicted.copy()
    for part in np.unique(part_of):
        inside = part_of == part
        if not inside.all():
            calibrated[inside] = fit_calibration(predicted[~inside], target[~inside], competition)(predicted[inside])
    return calibrated


def estimated_shares(predicted: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the shares of classes (K,) among images with calibrated predictions (N, K), by EM.

    shares (K,) are those of the training images, by which the predictions were calibrated. A class with share 0 stays
    at 0.
    """
    ratio, found = predicted / np.maximum(shares, SMALLEST), shares.copy()
    for _ in range(EM_ROUNDS):
        chances = ratio * found
        new = (chances / np.maximum(chances.sum(axis=1, keepdims=True), SMALLEST)).mean(axis=0)
        if np.abs(new - found).max() < EM_ENOUGH:
            break
        found = new
    return found


def with_shares(predicted: np.ndarray, shares: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return calibrated predictions (N, K) corrected from training shares to new ones, both (K,)."""
    chances = predicted * (new / np.maximum(shares, SMALLEST))
    corrected: np.ndarray = chances / np.maximum(chances.sum(axis=1, keepdims=True), SMALLEST)
    return corrected.astype(np.float32)
