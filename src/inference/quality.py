"""How good predictions are where runs, views or epochs are compared: by the metric, and by the truth's likelihood."""

import math

import numpy as np
import pandas as pd

from src.competitions.decision import class_probabilities
from src.competitions.spec import Competition
from src.core.errors import InputError
from src.metrics import goodness, metric_of, score_of

NUM_PARTS = 5  # of a cross-validation


def parts_of_groups(groups: np.ndarray, num_parts: int = NUM_PARTS, seed: int = 0) -> np.ndarray:
    """Return the part of a cross-validation, (N,), that each image is in; groups (N,) are never divided."""
    names, numbers = np.unique(groups, return_inverse=True)
    parts: np.ndarray = np.random.default_rng(seed).permutation(len(names))[numbers] % num_parts
    return parts


def likelihood_losses(predicted: np.ndarray, target: np.ndarray, competition: Competition) -> np.ndarray:
    """Return how far each image's prediction is from its label, (N,): -log of its probability, or the absolute error
    of a number in standard deviations."""
    layout, losses = competition.layout, np.zeros(len(target))
    parts = zip(competition.heads, layout.split_targets(target), layout.split(predicted), strict=True)
    for head, true, part in parts:
        if head.kind == "number":
            losses += (np.abs(part.astype(np.float64) - true) / head.scale[1])[:, 0]
            continue
        shares = class_probabilities(part, head).astype(np.float64)
        of_truth = (
            np.where(true == 1, shares, 1 - shares)
            if head.kind == "labels"
            else np.take_along_axis(shares, true.astype(np.int64), axis=1)
        )
        losses -= np.log(of_truth + 1e-12).sum(axis=1)
    return losses


def defined(score: float) -> float | None:
    """Return a score as JSON has it: None if it is not defined."""
    return float(score) if math.isfinite(score) else None


def check_one_image_each(flag: str, labels: pd.DataFrame) -> None:
    """Raise InputError where several images have one answer: what is fitted on answers is not right for images."""
    if "answer" in labels.columns:
        raise InputError(f"{flag}: is not supported where several images share one answer; leave it out")


def is_for_rules(competition: Competition) -> bool:
    """Return whether there is something to fit: a metric of answers over labels or grades, or a none_class.

    Nothing is fitted if probabilities are submitted: the organiser decides how to use them.
    """
    if competition.answer == "probabilities":
        return False
    if competition.none_class and len(competition.heads) == 1 and competition.heads[0].kind == "class":
        return competition.none_class in competition.heads[0].classes
    fitted_kinds = {"labels", "ordinal"} & set(competition.layout.kinds)
    return bool(fitted_kinds) and metric_of(competition).of == "answers"


def quality(predicted: np.ndarray, target: np.ndarray, competition: Competition) -> tuple[float, float]:
    """Return how good predictions are, by the metric; the likelihood of the truth decides between equal scores.

    Where a rule is fitted afterwards, the score without one says little, and the likelihood alone decides.
    """
    likelihood = -float(likelihood_losses(predicted, target, competition).mean())
    if is_for_rules(competition):
        return likelihood, 0.0
    return goodness(score_of(predicted, target, competition), competition), likelihood


def confidence_of(predicted: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    """Return the probability of whole answers, (N,): the product over heads; answers (N, num_heads) are class ids."""
    parts = competition.layout.split(predicted.astype(np.float64))
    each = [np.take_along_axis(part, answers[:, [head]], axis=1)[:, 0] for head, part in enumerate(parts)]
    product: np.ndarray = np.prod(each, axis=0)
    return product
