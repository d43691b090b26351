"""Several runs combined by what their out-of-fold predictions say, and the cross-validated gain.

Source of the selection: Caruana et al., Ensemble Selection from Libraries of Models, 2004.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from src.competitions.decision import Rule
from src.competitions.spec import Competition
from src.config import BlendConfig
from src.core.errors import InputError
from src.inference.ensemble import OutOfFold, weighted_mean
from src.inference.quality import defined, parts_of_groups, quality
from src.inference.rules import decide_out_of_fold
from src.inference.stacking import Stack, fit_stack
from src.metrics import metric_of, score_of


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Fitted weights, and scores on the images they were fitted on and on others."""

    weights: np.ndarray  # (R,) of each run, summing to 1
    stack: Stack | None  # with --stack, a model on top of the runs and of their weighted mean
    rule: Rule  # how the blended predictions become answers
    fitted_score: float
    cross_validated_score: float  # by an outer cross-validation
    cross_validated_mean: float  # the same of the weighted mean, without a stack
    cross_validated_best_single: float
    oof: np.ndarray  # (N, num_outputs) predictions of the held-out images, each by weights fitted without it

    def describe(self) -> dict[str, Any]:
        """Return what the submission's JSON says of it; None for a score that is not defined."""
        names = ("fitted_score", "cross_validated_score", "cross_validated_mean", "cross_validated_best_single")
        scores = {name: defined(getattr(self, name)) for name in names}
        return scores | ({"stack": self.stack.describe()} if self.stack else {})


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


def oof_predictions(oofs: list[OutOfFold], config: BlendConfig) -> dict[str, np.ndarray]:
    """Return predictions (N, num_outputs) of the weighted mean, of the stack (if asked for) and of the best single run.

    Each is fitted or chosen without the images that it predicts. Raises InputError for too few groups.
    """
    target, competition = oofs[0].target, oofs[0].competition
    parts = [oof.probabilities for oof in oofs]
    # Whole groups are held out together, so that no duplicate of an image helps to choose.
    groups = oofs[0].labels["group"].to_numpy()
    if (count := len(np.unique(groups))) < config.outer_folds:
        raise InputError(f"--outer-folds {config.outer_folds}: there are only {count} groups of images")
    outer = parts_of_groups(groups, config.outer_folds, config.seed)
    kinds = ("mean", "single", *(("stack",) if config.stack else ()))
    predicted = {kind: np.zeros_like(parts[0]) for kind in kinds}
    for fold in range(config.outer_folds):
        fitted, val = outer != fold, outer == fold
        known, new = [part[fitted] for part in parts], [part[val] for part in parts]
        weights = select(known, target[fitted], competition, config.rounds)
        predicted["mean"][val] = weighted_mean(new, list(weights))
        qualities = [quality(part, target[fitted], competition) for part in known]
        predicted["single"][val] = new[qualities.index(max(qualities))]
        if config.stack:
            predicted["stack"][val] = fit_stack(known, weights, target[fitted], competition)(new, competition)
    return predicted


def fit(oofs: list[OutOfFold], config: BlendConfig) -> Blend:
    """Fit weights, and with --stack a model on top, on the out-of-fold predictions of runs that were scored on the same
    images. Raises InputError."""
    parts, target, competition = [oof.probabilities for oof in oofs], oofs[0].target, oofs[0].competition
    weights = select(parts, target, competition, config.rounds)
    stack = fit_stack(parts, weights, target, competition) if config.stack else None
    groups, metric = oofs[0].labels["group"].to_numpy(), metric_of(competition)
    cross_validated = oof_predictions(oofs, config)
    scores = {
        kind: metric(target, decide_out_of_fold(one, target, competition, groups).scored, competition)
        for kind, one in cross_validated.items()
    }
    blended = stack(parts, competition) if stack else weighted_mean(parts, list(weights))
    rule = decide_out_of_fold(blended, target, competition, groups).rule
    kind = "stack" if stack else "mean"
    return Blend(
        weights=weights,
        stack=stack,
        rule=rule,
        fitted_score=score_of(blended, target, competition, rule),
        cross_validated_score=scores[kind],
        cross_validated_mean=scores["mean"],
        cross_validated_best_single=scores["single"],
        oof=cross_validated[kind],
    )
