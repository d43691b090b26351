"""What a score is: the only place that knows. To add a metric, add an entry to _LIST; see Metric for what it takes.

Metrics of one head are averaged over heads, with the competition's head_weights.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from src.competitions import counts
from src.competitions.counts import OfCounts, average_precision, roc_auc, score_of_weights
from src.competitions.decision import Rule, class_probabilities, decide, with_none
from src.competitions.metric import Metric, OfWeights
from src.competitions.reading_labels import are_numbers
from src.competitions.spec import Competition, Head
from src.core.errors import InputError, nearest

SMALLEST = 1e-15  # probability in a log loss, as in Kaggle's
NO_NUMBER = ("class", "labels", "ordinal")
GRADES = ("class", "ordinal")


def _mean_over_heads(values: list[float], competition: Competition) -> float:
    return float(np.average(values, weights=competition.head_weights or None))


def _matches(target: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    found: np.ndarray = (answers == target).all(axis=1)
    return found


def _of_classes(function: OfCounts, target: np.ndarray, answers: np.ndarray, competition: Competition) -> OfWeights:
    heads = zip(competition.heads, target.T, answers.T, strict=True)
    scores = [score_of_weights(function, true, answer, head.num_classes) for head, true, answer in heads]
    return lambda weight: _mean_over_heads([score(weight) for score in scores], competition)


def _f1(average: str, target: np.ndarray, answers: np.ndarray, competition: Competition) -> OfWeights:
    """Return F1 over classes or labels. With neither images nor answers, a class is skipped and a label counts 0."""
    scores: list[OfWeights] = []
    split = competition.layout.split_targets
    for head, true, answer in zip(competition.heads, split(target), split(answers), strict=True):
        if head.kind == "labels":
            scores.append(_f1_of_labels(average, true, answer))
        else:
            scores.append(score_of_weights(_F1[average], true[:, 0], answer[:, 0], head.num_classes))
    return lambda weight: _mean_over_heads([score(weight) for score in scores], competition)


def _f1_of_labels(average: str, true: np.ndarray, answers: np.ndarray) -> OfWeights:
    @cache
    def columns() -> list[np.ndarray]:
        return [each.astype(np.float32) for each in (true * answers, true, answers)]  # exact up to 2**24 images

    def score(weight: np.ndarray | None) -> float:
        if weight is None:
            both, there, given = np.einsum("ij,ij->j", true, answers), true.sum(axis=0), answers.sum(axis=0)
        else:
            both, there, given = ((weight.astype(np.float32) @ each).astype(np.float64) for each in columns())
        if average == "micro":
            return float(2 * both.sum() / max((there + given).sum(), SMALLEST))
        each = 2 * both / np.maximum(there + given, SMALLEST)
        if average == "macro":
            return float(each.mean())
        return float(np.average(each, weights=there)) if there.any() else math.nan

    return score


def _samples_f1(target: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    """Return the F1 of each image's labels; 1 where none is there and none is given."""
    total = target.sum(axis=1) + answers.sum(axis=1)
    return np.where(total == 0, 1.0, 2 * (target * answers).sum(axis=1) / np.maximum(total, 1))


def _log_losses(target: np.ndarray, predicted: np.ndarray, competition: Competition) -> np.ndarray:
    """Return -log of the probability of the truth, (N,): the mean over heads, and over the labels of a head."""
    layout, losses = competition.layout, []
    parts = zip(competition.heads, layout.split_targets(target), layout.split(predicted), strict=True)
    for head, true, part in parts:
        shares = class_probabilities(part, head).astype(np.float64)
        if head.kind == "labels":
            of_truth = np.where(true == 1, shares, 1 - shares)
        else:
            of_truth = np.take_along_axis(shares / shares.sum(axis=1, keepdims=True), true.astype(np.int64), axis=1)
        losses.append(-np.log(np.clip(of_truth, SMALLEST, 1)).mean(axis=1))
    return np.average(losses, axis=0, weights=competition.head_weights or None)


def _each_label(
    function: Callable[[np.ndarray, np.ndarray], OfWeights],
    target: np.ndarray,
    predicted: np.ndarray,
    competition: Competition,
) -> OfWeights:
    """Return the mean over labels, or over classes each against the others, of a score of probabilities.

    Labels that all images have, or none, are skipped; NaN if none remain.
    """
    layout, of_heads = competition.layout, []
    parts = zip(competition.heads, layout.split_targets(target), layout.split(predicted), strict=True)
    for head, true, part in parts:
        shares = class_probabilities(part, head)
        if head.kind != "labels":
            true = (np.arange(head.num_classes) == true).astype(np.int64)
            if head.num_classes == 2:  # of two classes, the second is the one that is looked for
                true, shares = true[:, 1:], shares[:, 1:]
        of_heads.append([function(*column) for column in zip(true.T, shares.T, strict=True)])

    def score(weight: np.ndarray | None) -> float:
        found = [np.array([one(weight) for one in of_labels]) for of_labels in of_heads]
        defined = [each[~np.isnan(each)] for each in found]
        return _mean_over_heads([float(each.mean()) if len(each) else math.nan for each in defined], competition)

    return score


def ranked(predicted: np.ndarray, head: Head, count: int, rule: Rule, none_class: str = "") -> np.ndarray:
    """Return the `count` most probable class ids of one head, the most probable first, (N, count)."""
    return np.argsort(-with_none(predicted, head, rule.of(0), none_class), axis=1, kind="stable")[:, :count]


def _ranks(target: np.ndarray, predicted: np.ndarray, competition: Competition) -> np.ndarray:
    """Return the rank, from 1, of the truth among the classes of one head, (N,)."""
    of_truth = np.take_along_axis(predicted, target.astype(np.int64), axis=1)
    before = np.tri(predicted.shape[1], k=-1, dtype=bool)[target[:, 0].astype(np.int64)]  # of equal ones the first
    return 1 + ((predicted > of_truth) | ((predicted == of_truth) & before)).sum(axis=1)


def _within(k: int, target: np.ndarray, predicted: np.ndarray, competition: Competition) -> np.ndarray:
    return (_ranks(target, predicted, competition) <= k).astype(np.float64)


def _precision_at(k: int, target: np.ndarray, predicted: np.ndarray, competition: Competition) -> np.ndarray:
    ranks = _ranks(target, predicted, competition)
    return np.where(ranks <= k, 1 / ranks, 0.0)


def edit_distance(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many insertions, deletions and substitutions make one sequence the other (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def _edit_distances(target: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    pairs = zip(answers.tolist(), target.tolist(), strict=True)
    distances = [edit_distance(competition.decode(answer), competition.decode(true)) for answer, true in pairs]
    return np.array(distances, dtype=np.float64)


def _numbers(values: np.ndarray, head: Head) -> np.ndarray:
    """Return what is measured of one head's answers (N,): grades that are numbers as these, others by their ranks."""
    if head.kind == "ordinal" and are_numbers(set(head.classes)):
        return np.array(head.classes, dtype=np.float64)[values.astype(np.int64)]
    return values.astype(np.float64)


def _errors(target: np.ndarray, answers: np.ndarray, competition: Competition) -> list[np.ndarray]:
    """Return each head's absolute errors, (N,)."""
    each = zip(competition.heads, target.T, answers.T, strict=True)
    return [np.abs(_numbers(answer, head) - _numbers(true, head)) for head, true, answer in each]


def _mean_errors(target: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    errors = _errors(target, answers, competition)
    return np.average(errors, axis=0, weights=competition.head_weights or None)


def _rmse(target: np.ndarray, answers: np.ndarray, competition: Competition) -> OfWeights:
    """Return the mean over heads of their RMSE (MCRMSE); that of all errors together would be the largest head's."""
    squares = [errors**2 for errors in _errors(target, answers, competition)]

    def score(weight: np.ndarray | None) -> float:
        return _mean_over_heads([math.sqrt(np.average(each, weights=weight)) for each in squares], competition)

    return score


_CLASSES: dict[str, OfCounts] = {
    one.__name__: one
    for one in (
        counts.balanced_accuracy,
        counts.mean_recall,
        counts.kappa,
        counts.quadratic_kappa,
        counts.matthews,
    )
}
_F1: dict[str, OfCounts] = {"macro": counts.macro_f1, "micro": counts.micro_f1, "weighted": counts.weighted_f1}
_PROBABILITIES = {"roc_auc": roc_auc, "mean_average_precision": average_precision}
_ERRORS = {"kinds": ("number", "ordinal"), "greater_is_better": False}
_LIST = [
    Metric(name="accuracy", kinds=NO_NUMBER, per_image=_matches),
    Metric(name="string_accuracy", per_image=_matches),
    *(Metric(name=name, kinds=GRADES, value=partial(_of_classes, one)) for name, one in _CLASSES.items()),
    *(Metric(name=f"{one}_f1", kinds=NO_NUMBER, value=partial(_f1, one)) for one in _F1),
    Metric(name="samples_f1", kinds=("labels",), per_image=_samples_f1),
    Metric(name="log_loss", of="probabilities", kinds=NO_NUMBER, greater_is_better=False, per_image=_log_losses),
    *(
        Metric(name=name, of="probabilities", kinds=NO_NUMBER, value=partial(_each_label, one))
        for name, one in _PROBABILITIES.items()
    ),
    Metric(name="edit_distance", greater_is_better=False, per_image=_edit_distances),
    Metric(name="rmse", value=_rmse, **_ERRORS),  # type: ignore[arg-type]
    Metric(name="mae", per_image=_mean_errors, **_ERRORS),  # type: ignore[arg-type]
]
METRICS = {metric.name: metric for metric in _LIST}
AT_K = {"map": _precision_at, "top": _within}


def metric_of(competition: Competition) -> Metric:
    """Return a competition's metric. Raises InputError for an unknown one, or one for other kinds of heads."""
    name = competition.metric
    if isinstance(name, Metric):
        found = name
    elif at_k := re.fullmatch(r"(map|top)@([1-9]\d{0,3})", name):
        found = Metric(name=name, of="probabilities", per_image=partial(AT_K[at_k[1]], int(at_k[2])))
    elif name in METRICS:
        found = METRICS[name]
    else:
        raise InputError(f"{competition.name}: no metric {name!r}; {nearest(name, [*METRICS, 'map@5', 'top@5'])}")
    for head in competition.heads:
        if head.kind not in found.kinds:
            raise InputError(
                f"{competition.name}: {found.name} is a metric of {' and '.join(found.kinds)}, but {head.name} is of "
                f"kind {head.kind!r}; choose another metric or kind"
            )
        if found.name == "quadratic_kappa" and head.kind == "class" and not are_numbers(set(head.classes)):
            raise InputError(
                f"{competition.name}: quadratic_kappa needs an order, and the classes of {head.name} are words; give "
                "kind='ordinal' and the classes in ascending order, or another metric"
            )
    if found.name == "edit_distance" and competition.heads and not competition.is_string:
        raise InputError(f"{competition.name}: edit_distance is a metric of strings; choose another metric")
    if "@" in found.name and len(competition.heads) > 1:
        raise InputError(f"{competition.name}: {found.name} is for one head, there are {len(competition.heads)}")
    return found


def check_handed_in(competition: Competition) -> None:
    """Raise InputError if the metric scores probabilities, or a list of classes, and others are handed in."""
    metric, answers = metric_of(competition), competition.num_answers
    if metric.of == "answers" or competition.answer == "probabilities" or isinstance(competition.metric, Metric):
        return
    wanted = int(metric.name.partition("@")[2] or 0)
    if not 0 < wanted <= answers and not competition.pretext:
        give = f"num_answers={wanted}" if wanted else "answer='probabilities'"
        handed_in = "1 class is" if answers == 1 else f"{answers} classes are"
        raise InputError(
            f"{competition.name}: {metric.name} is of probabilities, but {handed_in} handed in; give {give}, or choose "
            "another metric"
        )


def scored(predicted: np.ndarray, competition: Competition, rule: Rule | None = None) -> np.ndarray:
    """Return what the metric takes: answers (N, num_targets), or predictions (N, num_outputs)."""
    metric = metric_of(competition)
    if metric.of == "answers":
        return decide(predicted, competition, rule)
    if rule and rule.cuts and competition.none_class:
        return with_none(predicted, competition.heads[0], rule.of(0), competition.none_class)
    return predicted


def direction(competition: Competition) -> str:
    """Return what a reader of a score must know: nothing, unless less is better."""
    return "" if metric_of(competition).greater_is_better else " (less is better)"


def goodness(score: float, competition: Competition) -> float:
    """Return a number that is greater for a better score; an undefined score is the worst."""
    if math.isnan(score):
        return -math.inf
    return score if metric_of(competition).greater_is_better else -score


def score_of(predicted: np.ndarray, target: np.ndarray, competition: Competition, rule: Rule | None = None) -> float:
    """Return the score of predictions (N, num_outputs); NaN if the metric is not defined for these images."""
    return metric_of(competition)(target, scored(predicted, competition, rule), competition)
