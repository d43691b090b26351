"""Every metric agrees with scikit-learn or a case worked by hand, weighted by how often an image counts too."""

import math
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from src.competitions import counts, food11
from src.competitions.counts import roc_auc, score_of_weights
from src.competitions.decision import Rule, decide
from src.competitions.metric import own_metric
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.metrics import METRICS, edit_distance, goodness, metric_of, score_of

CLASSES = ("1", "2", "3", "4")


def competition(metric: Any, *heads: Head, **fields: Any) -> Competition:
    """Return a competition with these heads, one of four classes by default."""
    given = heads or (Head(name="label", classes=CLASSES),)
    return replace(food11.COMPETITION, heads=given, class_names=(), metric=metric, **fields)


def classes(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (N, 1) and probabilities (N, 4), better than chance."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, count)
    shares = rng.random((count, 4)) + 0.7 * np.eye(4)[target]
    return target[:, None], (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def labels(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (N, 4) of 0 and 1, and probabilities of the same shape."""
    rng = np.random.default_rng(seed)
    target = (rng.random((count, 4)) < (0.5, 0.3, 0.2, 0.1)).astype(np.int64)
    return target, np.clip(0.6 * target + 0.5 * rng.random((count, 4)), 0, 1).astype(np.float32)


LABELS = Head(name="tags", classes=CLASSES, kind="labels")
OF_CLASSES: dict[str, Callable[..., float]] = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "mean_recall": lambda *args, **weight: reference.recall_score(*args, average="macro", **weight),
    "macro_f1": lambda *args, **weight: reference.f1_score(*args, average="macro", **weight),
    "micro_f1": lambda *args, **weight: reference.f1_score(*args, average="micro", **weight),
    "weighted_f1": lambda *args, **weight: reference.f1_score(*args, average="weighted", **weight),
    "kappa": reference.cohen_kappa_score,
    "quadratic_kappa": lambda *args, **weight: reference.cohen_kappa_score(*args, weights="quadratic", **weight),
    "matthews": reference.matthews_corrcoef,
}
WEIGHTS = [None, np.random.default_rng(1).integers(0, 4, 60).astype(float)]


@pytest.mark.parametrize("weight", WEIGHTS, ids=["once", "weighted"])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_metric_of_classes_is_scikit_learns(name: str, weight: np.ndarray | None) -> None:
    target, shares = classes(2)
    one = competition(name)
    found = metric_of(one)(target, decide(shares, one), one, weight)
    expected = OF_CLASSES[name](target[:, 0], shares.argmax(axis=1), sample_weight=weight)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_metric_of_classes_is_scikit_learns_where_some_are_missing_and_of_many(name: str) -> None:
    rng = np.random.default_rng(3)
    for true, answer in (
        (rng.integers(0, 3, 40), rng.choice([0, 3], 40)),  # never answered, only answered
        (rng.integers(0, 2, 40), np.zeros(40, np.int64)),
        *((rng.integers(0, 90, 300),) * 2,),
        (rng.integers(0, 90, 300), rng.integers(0, 90, 300)),
    ):
        head = Head(name="label", classes=tuple(f"{number:02}" for number in range(90 if answer.max() > 3 else 4)))
        one, grades = competition(name, head), {"labels": range(head.num_classes)} if "quadratic" in name else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are never answered
            expected = OF_CLASSES[name](true, answer, **grades)
        assert metric_of(one)(true[:, None], answer[:, None], one) == pytest.approx(expected, abs=1e-12)


def test_the_quadratic_kappa_counts_grades_that_no_image_has() -> None:
    four = competition("quadratic_kappa", Head(name="grade", classes=CLASSES, kind="ordinal"))
    true, answer = np.array([[0], [1], [3], [3]]), np.array([[0], [1], [3], [1]])  # no image has grade 2
    expected = reference.cohen_kappa_score(true, answer, weights="quadratic", labels=range(4))
    assert metric_of(four)(true, answer, four) == pytest.approx(expected)
    assert abs(expected - reference.cohen_kappa_score(true, answer, weights="quadratic")) > 0.01


@pytest.mark.parametrize("name", ["kappa", "mean_recall", "macro_f1"])
def test_a_thousand_resamples_of_30000_images_take_seconds(name: str) -> None:
    target, shares = classes(12, 30_000)
    one, weight = competition(name), np.random.default_rng(0).integers(0, 3, 30_000).astype(float)
    score = metric_of(one).of_weights(target, decide(shares, one), one)
    start = time.process_time()
    for _ in range(30):
        score(weight)
    assert time.process_time() - start < 30 * 0.002


@pytest.mark.parametrize("weight", WEIGHTS, ids=["once", "weighted"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
def test_f1_of_labels_is_scikit_learns(average: str, weight: np.ndarray | None) -> None:
    target, shares = labels(3)
    one = competition(f"{average}_f1", LABELS)
    found = metric_of(one)(target, decide(shares, one), one, weight)
    # of an image without labels and without answers scikit-learn says what zero_division is
    expected = reference.f1_score(target, shares > 0.5, average=average, sample_weight=weight, zero_division=1)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weight", WEIGHTS, ids=["once", "weighted"])
def test_metrics_of_probabilities_are_scikit_learns(weight: np.ndarray | None) -> None:
    target, shares = classes(4)
    rows = np.arange(60) if weight is None else np.repeat(np.arange(60), weight.astype(int))
    one = competition("log_loss")
    exact = shares.astype(np.float64) / shares.sum(axis=1, dtype=np.float64, keepdims=True)
    expected = reference.log_loss(target[rows, 0], exact[rows], labels=range(4))
    assert metric_of(one)(target, shares, one, weight) == pytest.approx(expected, abs=1e-6)
    tags, likely = labels(5)
    for name, function in (
        ("roc_auc", reference.roc_auc_score),
        ("mean_average_precision", reference.average_precision_score),
    ):
        one = competition(name, LABELS)
        assert metric_of(one)(tags, likely, one, weight) == pytest.approx(
            function(tags, likely, average="macro", sample_weight=weight), abs=1e-12
        )
    one = competition("roc_auc", Head(name="label", classes=("no", "yes")))
    found = metric_of(one)(tags[:, :1], np.stack([1 - likely[:, 0], likely[:, 0]], axis=1), one, weight)
    assert found == pytest.approx(reference.roc_auc_score(tags[:, 0], likely[:, 0], sample_weight=weight), abs=1e-12)
    one = competition("log_loss", LABELS)
    by_label = [reference.log_loss(tags[rows, i], likely[rows, i].astype(np.float64)) for i in range(4)]
    clipped = np.clip(likely, 1e-7, 1 - 1e-7)
    assert metric_of(one)(tags, clipped, one, weight) == pytest.approx(np.mean(by_label), rel=1e-3)


@pytest.mark.parametrize("weight", WEIGHTS, ids=["once", "weighted"])
def test_equal_probabilities_count_a_half_in_the_area_under_the_roc_curve(weight: np.ndarray | None) -> None:
    tags, likely = labels(6)
    coarse = likely[:, 0].round(1)
    expected = reference.roc_auc_score(tags[:, 0], coarse, sample_weight=weight)
    assert roc_auc(tags[:, 0], coarse)(weight) == pytest.approx(expected, abs=1e-12)
    assert roc_auc(np.array([0, 1, 1]), np.array([0.5, 0.5, 0.5]))(None) == 0.5


def test_lists_of_classes_by_hand() -> None:
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]], np.float32)
    target = np.array([[3], [2], [1]])  # first, third, second (equal ones in the order of the classes)
    assert score_of(shares, target, competition("map@2")) == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert score_of(shares, target, competition("map@5")) == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert score_of(shares, target, competition("top@2")) == pytest.approx(2 / 3)


def test_numbers_and_grades_by_hand() -> None:
    number = Head(name="age", kind="number", scale=(40.0, 10.0))
    predicted, target = np.array([[1.0], [5.0]], np.float32), np.array([[2.0], [2.0]], np.float32)
    assert score_of(predicted, target, competition("rmse", number)) == pytest.approx(math.sqrt((1 + 9) / 2))
    assert score_of(predicted, target, competition("mae", number)) == pytest.approx(2)
    two = competition("rmse", number, replace(number, name="height"), answer="heads", columns=("id",))
    made, true = (np.concatenate([part, 10 * part], axis=1) for part in (predicted, target))  # each head has its own
    assert score_of(made, true, two) == pytest.approx((math.sqrt(5) + 10 * math.sqrt(5)) / 2)
    weights = np.array([2, 0])
    assert metric_of(two)(true, made, two, weights) == pytest.approx((1 + 10) / 2)
    grade = Head(name="grade", classes=("0", "1", "2"), kind="ordinal")
    above = np.array([[0.9, 0.8], [0.9, 0.4], [0.6, 0.4]], np.float32)  # grades 2, 1, 1
    assert score_of(above, np.array([[2], [1], [0]]), competition("mae", grade)) == pytest.approx(1 / 3)
    assert decide(above, competition("mae", grade), Rule(cuts=((1.1, 1.5),))).tolist() == [[2], [1], [0]]


def test_heads_are_averaged_with_their_weights() -> None:
    heads = (Head(name="root", classes=CLASSES), Head(name="vowel", classes=CLASSES))
    (target, shares), (other, more) = classes(6), classes(7)
    both = competition("mean_recall", *heads, head_weights=(3.0, 1.0), answer="heads", columns=("id",))
    each = [score_of(shares, target, competition("mean_recall")), score_of(more, other, competition("mean_recall"))]
    found = score_of(np.concatenate([shares, more], axis=1), np.concatenate([target, other], axis=1), both)
    assert found == pytest.approx((3 * each[0] + each[1]) / 4)


def test_edit_distances_by_hand() -> None:
    assert edit_distance(list("kitten"), list("sitting")) == 3
    assert edit_distance([], [1, 2]) == 2
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    heads = tuple(Head(name=name, classes=("a", "b", "x", "yy")) for name in ("one", "two"))
    code = competition("edit_distance", *heads)
    found = metric_of(code)(np.array([[0, 3]]), np.array([[1, 2]]), code)
    assert found == 3  # "bx" for "ayy"


def test_a_metric_of_ones_own_and_what_is_better() -> None:
    target, shares = classes(8)
    own = own_metric("share of a", lambda true, answer: float((answer == 0).mean()), greater_is_better=False)
    mine = competition(own)
    assert score_of(shares, target, mine) == pytest.approx((shares.argmax(axis=1) == 0).mean())
    weight = np.zeros(60)
    weight[shares.argmax(axis=1) == 0] = 2
    assert metric_of(mine)(target, decide(shares, mine), mine, weight) == 1
    assert goodness(0.2, mine) > goodness(0.3, mine)
    assert goodness(0.3, competition("accuracy")) > goodness(0.2, competition("accuracy")) > goodness(math.nan, mine)


def test_a_mistake_in_a_metric_of_ones_own_is_one_line() -> None:
    target, shares = classes(11)
    functions: list[Any] = [lambda true, answer: true["label"], lambda true, answer: None]
    for function in functions:
        with pytest.raises(InputError, match=r"^metric mine: (IndexError|TypeError): "):
            score_of(shares, target, competition(own_metric("mine", function)))


def test_a_metric_that_is_not_defined_is_nan() -> None:
    tags, likely = labels(9)
    tags[:, :] = 0
    assert math.isnan(score_of(likely, tags, competition("roc_auc", LABELS)))


@pytest.mark.parametrize(
    ("metric", "head", "message"),
    [
        ("acuracy", LABELS, "no metric 'acuracy'; did you mean accuracy"),
        ("quadratic_kappa", LABELS, "quadratic_kappa is a metric of class and ordinal, but tags is of kind 'labels'"),
        (
            "quadratic_kappa",
            Head(name="tree", classes=("ash", "oak")),
            "the classes of tree are words",
        ),
        ("edit_distance", Head(name="tree", classes=("ash", "oak")), "edit_distance is a metric of strings"),
        ("rmse", Head(name="label", classes=CLASSES), "but label is of kind 'class'"),
        ("map@0", Head(name="label", classes=CLASSES), "no metric 'map@0'; did you mean map@5"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(metric: str, head: Head, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metric_of(competition(metric, head))


def test_every_metric_scores_a_perfect_answer_best() -> None:
    target, _ = classes(10)
    perfect = np.eye(4, dtype=np.float32)[target[:, 0]]
    for name, metric in METRICS.items():
        if "class" in metric.kinds and name != "edit_distance":  # of strings
            assert score_of(perfect, target, competition(name)) == pytest.approx(
                float(metric.greater_is_better), abs=1e-6
            )


def test_many_classes_take_no_table_of_all_pairs() -> None:
    true = np.arange(100)
    tracemalloc.start()
    score = score_of_weights(counts.macro_f1, true, true, 20_000)(None)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert score == 1
