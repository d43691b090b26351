"""What is decided after training: thresholds of labels, cut points of grades, when to answer "none of these".

Rules are fitted on out-of-fold predictions. Their gain is measured by cross-validation over groups: no image is decided
by cuts that were fitted on it. The search is a coordinate ascent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.competitions.decision import Rule, decide
from src.competitions.spec import Competition, Head
from src.inference.quality import NUM_PARTS, is_for_rules, parts_of_groups
from src.metrics import goodness, metric_of, score_of, scored

NUM_CANDIDATES = 24  # cuts tried at a time, at even shares of the predictions
NUM_ROUNDS = 2
MAX_IMAGES = 20_000  # that a rule is fitted on


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Out-of-fold predictions, decided by a fitted rule."""

    rule: Rule  # fitted on all images; what predict uses. None is, if it does not help
    scored: np.ndarray  # what the metric takes, of each image by a rule that was fitted without it
    plain_score: float  # without a rule

    def answers(self, competition: Competition) -> np.ndarray:
        """Return what is answered, (N, num_targets)."""
        return self.scored if metric_of(competition).of == "answers" else decide(self.scored, competition)


def _starts(head: Head, none_class: str) -> tuple[float, ...]:
    """Return the cuts that answer like no rule, or nearly: the search begins there. Classes have one for none_class."""
    if head.kind == "labels":
        return (0.5,) * head.num_classes
    if head.kind == "ordinal":
        return tuple(grade + 0.5 for grade in range(head.num_outputs))
    return (0.0,) if head.kind == "class" and none_class else ()


def _candidates(values: np.ndarray) -> np.ndarray:
    """Return cuts between the values, denser where they are large: rare labels are cut near the top."""
    shares = np.concatenate(
        [np.linspace(0.02, 0.9, NUM_CANDIDATES // 2), 1 - np.geomspace(0.08, 0.001, NUM_CANDIDATES // 2)]
    )
    return np.unique(np.quantile(values, shares))


def fit_rule(predicted: np.ndarray, target: np.ndarray, competition: Competition) -> Rule:
    """Return the rule with the best score on these images; predicted (N, num_outputs), target (N, num_targets).

    One cut after the other is moved to the best of some candidates, in two rounds. An equally good one nearer to the
    start wins, so that few images do not move a cut far.
    """
    if len(predicted) > MAX_IMAGES:
        rows = np.random.default_rng(0).permutation(len(predicted))[:MAX_IMAGES]
        predicted, target = predicted[rows], target[rows]
    starts = [_starts(head, competition.none_class) for head in competition.heads]
    cuts = [list(own) for own in starts]
    parts = competition.layout.split(predicted)

    def quality() -> float:
        rule = Rule(cuts=tuple(tuple(one) for one in cuts))
        return goodness(score_of(predicted, target, competition, rule), competition)

    best = quality()
    for _ in range(NUM_ROUNDS):
        for head, part, own, begun in zip(competition.heads, parts, cuts, starts, strict=True):
            for number, start in enumerate(begun):
                values = (
                    part.sum(axis=1)
                    if head.kind == "ordinal"
                    else part[:, number]
                    if head.kind == "labels"
                    else part.max(axis=1)
                )
                kept = own[number]
                for value in sorted(_candidates(values), key=lambda value: abs(value - start)):
                    if head.kind == "ordinal" and not _between(own, number, value):
                        continue
                    own[number] = float(value)
                    found = quality()
                    if found > best:
                        best, kept = found, own[number]
                own[number] = kept
    return Rule(cuts=tuple(tuple(one) for one in cuts))


def _between(cuts: Sequence[float], number: int, value: float) -> bool:
    """Return whether a cut stays in ascending order with its neighbours."""
    return (number == 0 or value >= cuts[number - 1]) and (number + 1 == len(cuts) or value <= cuts[number + 1])


def decide_out_of_fold(
    predicted: np.ndarray, target: np.ndarray, competition: Competition, groups: np.ndarray
) -> Decided:
    """Return the rule for new images, and these images as rules decide that were fitted without them; groups (N,).

    A rule that does not raise the cross-validated score is dropped; that choice is made on these same images.
    """
    plain = score_of(predicted, target, competition)
    if not is_for_rules(competition) or len(np.unique(groups)) < NUM_PARTS:
        return Decided(rule=Rule(), scored=scored(predicted, competition), plain_score=plain)
    part_of = parts_of_groups(groups)
    decided = scored(predicted, competition).copy()
    for part in range(NUM_PARTS):
        inside = part_of == part
        rule = fit_rule(predicted[~inside], target[~inside], competition)
        decided[inside] = scored(predicted[inside], competition, rule)
    with_rule = metric_of(competition)(target, decided, competition)
    if goodness(with_rule, competition) <= goodness(plain, competition):
        return Decided(rule=Rule(), scored=scored(predicted, competition), plain_score=plain)
    return Decided(rule=fit_rule(predicted, target, competition), scored=decided, plain_score=plain)
