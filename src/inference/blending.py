"""Weights of several runs, fitted on their out-of-fold predictions, and the honest gain.

Source of the selection: Caruana et al., Ensemble Selection from Libraries of Models, 2004.
"""

import math
from dataclasses import dataclass

import numpy as np

from src.competitions.decision import Rule
from src.competitions.spec import Competition
from src.config import BlendConfig
from src.core.errors import InputError
from src.inference.ensemble import OutOfFold, weighted_mean
from src.inference.quality import quality
from src.inference.rules import decide_honestly
from src.metrics import metric_of, score_of


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Fitted weights, and scores on the images they were fitted on and on others."""

    weights: np.ndarray  # (R,) of each run, summing to 1
    rule: Rule  # how the blended predictions become answers
    fitted_score: float
    honest_score: float  # by an outer cross-validation
    honest_best_single: float

    def describe(self) -> dict[str, float | None]:
        """Return what the submission's JSON says of it; None for a score that is not defined."""
        names = ("fitted_score", "honest_score", "honest_best_single")
        return {name: score if math.isfinite(score := getattr(self, name)) else None for name in names}


def check_same_images(names: list[str], oofs: list[OutOfFold]) -> None:
    """Raise InputError unless all runs were scored on the same images with the same labels."""
    for name, oof in zip(names[1:], oofs[1:], strict=True):
        if oof.labels["image_path"].tolist() != oofs[0].labels["image_path"].tolist():
            raise InputError(f"--run-name: {name} and {names[0]} were scored on different images; train the same folds")
        if not np.array_equal(oof.target, oofs[0].target):
            raise InputError(
                f"--run-name: {name} and {names[0]} were scored with different labels; train both on one snapshot"
            )


def select(parts: list[np.ndarray], target: np.ndarray, competition: Competition, rounds: int) -> np.ndarray:
    """Return a weight for each run, summing to 1: greedy selection with replacement, starting from the best single run.

    The best round counts, and the first round is the best single run: on these images the result is never worse.
    """
    counts = np.zeros(len(parts))
    total = np.zeros_like(parts[0], dtype=np.float64)
    best, best_counts = (-np.inf, -np.inf), counts
    for round_number in range(1, rounds + 1):
        options = [quality(((total + part) / round_number).astype(np.float32), target, competition) for part in parts]
        chosen = max(range(len(parts)), key=lambda run: options[run])
        counts[chosen] += 1
        total += parts[chosen]
        if options[chosen] > best:
            best, best_counts = options[chosen], counts.copy()
    return best_counts / best_counts.sum()


def honest_gain(oofs: list[OutOfFold], config: BlendConfig) -> tuple[float, float]:
    """Return (score of the blend, score of the best single run), both chosen without the images they are scored on."""
    target, competition = oofs[0].target, oofs[0].competition
    parts = [oof.probabilities for oof in oofs]
    # Whole groups are held out together, so that no duplicate of an image helps to choose.
    names, number = np.unique(oofs[0].labels["group"], return_inverse=True)
    if len(names) < config.outer_folds:
        raise InputError(f"--outer-folds {config.outer_folds}: there are only {len(names)} groups of images")
    outer = np.random.default_rng(config.seed).permutation(len(names))[number] % config.outer_folds
    blended, single = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    for fold in range(config.outer_folds):
        fitted, val = outer != fold, outer == fold
        weights = select([part[fitted] for part in parts], target[fitted], competition, config.rounds)
        blended[val] = weighted_mean([part[val] for part in parts], list(weights))
        best = max(range(len(parts)), key=lambda run: quality(parts[run][fitted], target[fitted], competition))
        single[val] = parts[best][val]
    groups = oofs[0].labels["group"].to_numpy()
    scores = [
        metric_of(competition)(target, decide_honestly(one, target, competition, groups).scored, competition)
        for one in (blended, single)
    ]
    return scores[0], scores[1]


def fit(oofs: list[OutOfFold], config: BlendConfig) -> Blend:
    """Fit weights on the out-of-fold predictions of runs that were scored on the same images. Raises InputError."""
    parts, target, competition = [oof.probabilities for oof in oofs], oofs[0].target, oofs[0].competition
    weights = select(parts, target, competition, config.rounds)
    blended, single = honest_gain(oofs, config)
    mean = weighted_mean(parts, list(weights))
    rule = decide_honestly(mean, target, competition, oofs[0].labels["group"].to_numpy()).rule
    return Blend(
        weights=weights,
        rule=rule,
        fitted_score=score_of(mean, target, competition, rule),
        honest_score=blended,
        honest_best_single=single,
    )
