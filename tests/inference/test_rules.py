"""Rules fitted after the training: they help, are scored out of fold, and come back when predict needs them."""

from dataclasses import replace

import numpy as np
import pytest

from src.competitions import food11
from src.competitions.decision import Rule, decide
from src.competitions.spec import Competition, Head
from src.inference.blending import select
from src.inference.quality import is_for_rules, quality
from src.inference.rules import decide_out_of_fold, fit_rule
from src.metrics import metric_of, score_of

LABELS = Head(name="tags", classes=("a", "b", "c"), kind="labels", required=True)
GRADE = Head(name="grade", classes=("0", "1", "2", "3"), kind="ordinal")


def competition(metric: str, head: Head, **fields: str) -> Competition:
    """Return a competition with this head."""
    return replace(food11.COMPETITION, heads=(head,), class_names=(), metric=metric, **fields)  # type: ignore[arg-type]


def rare_labels(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (N, 3) of rare labels, and probabilities that are too low for a threshold of one half."""
    rng = np.random.default_rng(0)
    target = (rng.random((count, 3)) < 0.15).astype(np.int64)
    return target, np.clip(0.12 + 0.2 * target + 0.1 * rng.standard_normal((count, 3)), 0, 1).astype(np.float32)


def test_thresholds_raise_f1_of_rare_labels_and_out_of_fold_too() -> None:
    target, predicted = rare_labels()
    one = competition("macro_f1", replace(LABELS, required=False))
    decided = decide_out_of_fold(predicted, target, one, np.arange(400))
    fitted = score_of(predicted, target, one, decided.rule)
    assert decided.plain_score < 0.2
    assert fitted > 0.6
    score = metric_of(one)(target, decided.scored, one)
    assert decided.plain_score + 0.3 < score <= fitted + 0.02


def test_cut_points_raise_the_quadratic_kappa() -> None:
    rng = np.random.default_rng(1)
    target = rng.integers(0, 4, 500)
    mean = np.clip(0.5 * target + 0.3 * rng.standard_normal(500), 0, 3)  # grades that are told too low
    predicted = np.clip(mean[:, None] - np.arange(3), 0, 1).astype(np.float32)
    one = competition("quadratic_kappa", GRADE)
    rule = fit_rule(predicted, target[:, None], one)
    assert list(rule.cuts[0]) == sorted(rule.cuts[0])
    assert score_of(predicted, target[:, None], one, rule) > score_of(predicted, target[:, None], one) + 0.1


def test_none_of_the_classes_is_answered_when_no_other_is_likely() -> None:
    rng = np.random.default_rng(2)
    head = Head(name="label", classes=("none", "x", "y", "z"))
    target = np.where(rng.random(300) < 0.4, 0, rng.integers(1, 4, 300))
    predicted = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    known = target > 0
    predicted[known] = 0.3 * predicted[known] + 0.7 * np.eye(4, dtype=np.float32)[target[known]]
    predicted[:, 0] *= 0.1
    one = competition("map@2", head, none_class="none")
    rule = fit_rule(predicted, target[:, None], one)
    assert 0.3 < rule.cuts[0][0] < 0.95
    assert score_of(predicted, target[:, None], one, rule) > score_of(predicted, target[:, None], one) + 0.1


def test_an_image_that_needs_a_label_gets_the_nearest() -> None:
    predicted = np.array([[0.2, 0.4, 0.1], [0.9, 0.8, 0.1]], np.float32)
    assert decide(predicted, competition("macro_f1", LABELS)).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert decide(predicted, competition("macro_f1", LABELS), Rule(cuts=((0.25, 0.9, 0.9),)))[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("metric", "head", "expected"),
    [
        ("macro_f1", LABELS, True),
        ("roc_auc", LABELS, False),
        ("quadratic_kappa", GRADE, True),
        ("accuracy", Head(name="label", classes=("a", "b")), False),
    ],
)
def test_rules_are_fitted_only_where_they_decide_something(metric: str, head: Head, expected: bool) -> None:
    assert is_for_rules(competition(metric, head)) is expected


def test_there_is_no_rule_where_probabilities_are_handed_in() -> None:
    head = Head(name="label", classes=("none", "x"))
    one = competition("log_loss", head, none_class="none", answer="probabilities")
    assert not is_for_rules(one)
    assert is_for_rules(replace(one, answer="text"))
    assert not is_for_rules(competition("macro_f1", LABELS, answer="probabilities"))


def test_classes_beside_grades_have_no_cut() -> None:
    rng = np.random.default_rng(0)
    target = np.stack([rng.integers(0, 2, 60), rng.integers(0, 4, 60)], axis=1)
    above = (target[:, 1:] > np.arange(3)) * 0.4 + 0.05
    predicted = np.concatenate([np.eye(2)[target[:, 0]], above], axis=1).astype(np.float32)
    both = replace(
        competition("quadratic_kappa", GRADE), answer="heads", heads=(Head(name="eye", classes=("0", "1")), GRADE)
    )
    decided = decide_out_of_fold(predicted, target, both, np.arange(60))
    assert decided.rule.cuts[0] == ()
    assert len(decided.rule.cuts[1]) == 3


def test_a_rule_that_does_not_help_is_left_out() -> None:
    target = np.tile(np.arange(4), 50)[:, None]
    predicted = (target > np.arange(3)).astype(np.float32)  # already perfect
    decided = decide_out_of_fold(predicted, target, competition("quadratic_kappa", GRADE), np.arange(200))
    assert decided.rule == Rule()
    assert decided.plain_score == 1


def test_a_blend_with_a_rule_to_come_chooses_by_likelihood() -> None:
    target, predicted = rare_labels()
    one = competition("macro_f1", replace(LABELS, required=False))
    better = np.clip(0.5 * target + 0.2 + 0 * predicted, 0, 1).astype(np.float32)
    chance = np.full_like(predicted, 0.51)  # F1 without a rule prefers to give every label
    assert score_of(chance, target, one) > score_of(predicted, target, one)
    assert quality(predicted, target, one) > quality(chance, target, one)
    assert select([chance, predicted, better], target, one, 3).argmax() == 2
