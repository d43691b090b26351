"""Intervals of scores: how far a score would move if other images of the same kind had been scored."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from src.competitions.metric import Metric
from src.inference.ensemble import OutOfFold
from src.metrics import metric_of

NUM_RESAMPLES = 1000
FEWER_RESAMPLES = 300  # for several seeds, each of which is resampled
CHUNK = 100  # resamples drawn at a time
SINGLES = 0.9  # groups per image from which images are taken as independent
FEW = 20  # groups below which a bootstrap's interval is too narrow
SHARES = ("accuracy", "string_accuracy")  # of images: these have an interval of their own


def part_of(oof: OutOfFold, rows: np.ndarray) -> OutOfFold:
    """Return the predictions of some images, those at `rows` (K,)."""
    return replace(
        oof,
        labels=oof.labels.iloc[rows].reset_index(drop=True),
        probabilities=oof.probabilities[rows],
        target=oof.target[rows],
        answers=oof.answers[rows],
        decided=replace(oof.decided, scored=oof.decided.scored[rows]),
    )


def score_interval(right: np.ndarray) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share of right answers; right (N,) bool.

    Unlike a bootstrap's it has a width if all or none are right. Images are taken as independent.
    """
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def resampled(metric: Metric, oof: OutOfFold, number: int = NUM_RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the scores of `number` resamples of the groups with replacement, NaN where they are undefined.

    Source: Efron, Bootstrap Methods, 1979; whole groups because their images are alike.
    """
    groups = np.unique(oof.labels["group"].to_numpy(), return_inverse=True)[1]
    count, rng = groups.max() + 1, np.random.default_rng(seed)
    score = metric.of_weights(oof.target, oof.decided.scored, oof.competition)
    scores: list[float] = []
    for start in range(0, number, CHUNK):
        draws = rng.integers(0, count, (min(CHUNK, number - start), count))
        scores += [score(np.bincount(row, minlength=count)[groups].astype(np.float64)) for row in draws]
    return np.array(scores)


def interval_95(resamples: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the middle 95% of the finite values; NaN, NaN if there are none."""
    finite = resamples[np.isfinite(resamples)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
    return float(low), float(high)


def in_groups(oof: OutOfFold) -> bool:
    """Return whether so many images share a group that they cannot be taken as independent."""
    return oof.labels["group"].nunique() < SINGLES * len(oof.target)


def resampled_difference(
    ones: Sequence[OutOfFold], others: Sequence[OutOfFold], number: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """Return the 95% interval of the difference of mean scores on the same images, others - ones, by a bootstrap.

    All are scored on the same resamples of the groups. NaN, NaN if no difference is defined.
    """
    metric = metric_of(ones[0].competition)
    one, other = (np.mean([resampled(metric, oof, number) for oof in side], axis=0) for side in (ones, others))
    return interval_95(other - one)


def paired_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the mean of other - one over images that both answered, and half the width of its 95% interval.

    one, other (N,) are what each image scored, the mean over seeds; images are taken as independent.
    """
    difference = other.astype(np.float64) - one
    return float(difference.mean()), float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference)))


def difference_over_seeds(first: list[OutOfFold], found: list[OutOfFold]) -> tuple[float, float]:
    """Return the difference of mean scores on the same images, found - first, and half its 95% interval's width.

    By a bootstrap if images lie in groups or the metric is not a mean over images.
    """
    metric = metric_of(found[0].competition)
    if metric.per_image is None or in_groups(found[0]):
        low, high = resampled_difference(first, found, FEWER_RESAMPLES)
        return float(np.mean([oof.score for oof in found]) - np.mean([oof.score for oof in first])), (high - low) / 2
    one, other = (
        np.mean([metric.per_image(oof.target, oof.decided.scored, oof.competition) for oof in oofs], axis=0)
        for oofs in (first, found)
    )
    return paired_difference(one, other)


def interval_of(oof: OutOfFold) -> tuple[float, float, str]:
    """Return the 95% interval of a run's score, and how it was found."""
    metric, num_groups = metric_of(oof.competition), oof.labels["group"].nunique()
    if metric.name in SHARES and not in_groups(oof):
        return (*score_interval(oof.right), "Wilson")
    low, high = interval_95(resampled(metric, oof))
    if np.isnan(low):
        return low, high, "undefined"
    few = f", fewer than {FEW}: rough" if num_groups < FEW else ""
    of_images = f" groups of {len(oof.target):,}" if num_groups < len(oof.target) else ""
    return low, high, f"bootstrap over {num_groups:,}{of_images} images{few}"
