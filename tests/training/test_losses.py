"""Losses of every kind of head, by hand; what counts more; soft labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from src.competitions import food11
from src.competitions.layout import HeadLayout
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.texts import Texts
from src.data.weighting import drawn, loss_weights, sampling_shares
from src.training.losses import contrastive, loss_of
from src.training.soft_labels import soft_targets

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.3, -0.3]])
ABC = Head(name="label", classes=("a", "b", "c"))


def competition(*heads: Head) -> Competition:
    """Return a competition with these heads."""
    return replace(food11.COMPETITION, heads=heads, class_names=(), answer="heads", columns=("id",))


def test_labels_have_a_binary_cross_entropy_each() -> None:
    target = torch.tensor([[1, 0, 1], [0, 0, 1]])
    found = loss_of(LOGITS, target, HeadLayout((3,), ("labels",)), "cross_entropy")
    shares = LOGITS.sigmoid()
    expected = -(target * shares.log() + (1 - target) * (1 - shares).log()).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    focal = loss_of(LOGITS, target, HeadLayout((3,), ("labels",)), "focal")
    sure = torch.where(target == 1, shares, 1 - shares)
    assert focal.item() == pytest.approx((-((1 - sure) ** 2) * sure.log()).mean().item(), abs=1e-6)


def test_a_grade_is_above_each_lower_one() -> None:
    found = loss_of(LOGITS, torch.tensor([[3], [1]]), HeadLayout((3,), ("ordinal",)), "cross_entropy")
    above = torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    assert found.item() == pytest.approx(functional.binary_cross_entropy_with_logits(LOGITS, above).item(), abs=1e-6)


def test_a_number_is_learned_in_standard_deviations() -> None:
    layout = HeadLayout((1,), ("number",), ((10.0, 2.0),))
    found = loss_of(torch.tensor([[0.5], [-1.0]]), torch.tensor([[12.0], [10.0]]), layout, "cross_entropy")
    assert found.item() == pytest.approx((0.5**2 + 1.0**2) / 2, abs=1e-6)


def test_weights_multiply_each_targets_loss() -> None:
    target = torch.tensor([[2], [0]])
    one, other = (functional.cross_entropy(LOGITS[i : i + 1], target[i]).item() for i in range(2))
    for loss in ("cross_entropy", "focal"):
        found = loss_of(LOGITS, target, HeadLayout((3,)), loss, 0.0, torch.tensor([[2.0], [0.0]]))
        sure = LOGITS[0].softmax(0)[2].item()
        assert found.item() == pytest.approx(one * (1 if loss == "cross_entropy" else (1 - sure) ** 2), abs=1e-6)
    assert other > 0


def test_hard_labels_as_probabilities_cost_the_same() -> None:
    layout = HeadLayout((3, 2), ("class", "labels"))
    logits, hard = torch.randn(2, 5), torch.tensor([[2, 1, 0], [0, 0, 1]])
    soft = torch.tensor([[0.0, 0, 1, 1, 0], [1, 0, 0, 0, 1]])
    for loss in ("cross_entropy", "focal"):
        one, other = (loss_of(logits, target, layout, loss, 0.1, soft=target is soft).item() for target in (hard, soft))
        assert one == pytest.approx(other, abs=1e-6)


def test_a_soft_label_of_two_grades_is_no_hard_one() -> None:
    layout, logits = HeadLayout((1,), ("ordinal",)), torch.tensor([[0.5], [-1.0]])
    for target, soft in ((torch.tensor([[0.25], [0.75]]), True), (torch.tensor([[0], [1]]), False)):
        expected = functional.binary_cross_entropy_with_logits(logits, target.float())
        found = loss_of(logits, target, layout, "cross_entropy", soft=soft)
        assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_rare_classes_count_more_and_one_on_average() -> None:
    targets = np.array([[0]] * 6 + [[1]] * 3 + [[2]])
    weights = loss_weights(competition(ABC), targets, None, balanced=True)
    assert weights
    found = weights.of(np.arange(10), targets)[:, 0]
    assert found.mean() == pytest.approx(1)
    sums = [found[targets[:, 0] == label].sum() for label in range(3)]
    assert sums == pytest.approx([10 / 3] * 3)
    assert loss_weights(competition(ABC), targets, None) is None


def test_images_and_heads_have_weights() -> None:
    two = competition(ABC, replace(ABC, name="other"))
    given = np.array([1.0, 3.0], np.float32)
    weights = loss_weights(two, np.zeros((2, 2), np.int64), given, head_weights=(3.0, 1.0))
    assert weights
    assert weights.of(np.array([1, 0]), np.zeros((2, 2), np.int64)).tolist() == [[2.25, 0.75], [0.75, 0.25]]


def test_of_two_strings_side_by_side_the_less_certain_label_counts() -> None:
    given, targets = np.array([1.0, 3.0], np.float32), np.zeros((2, 1), np.int64)
    weights = loss_weights(competition(ABC), targets, given)
    assert weights
    assert weights.of(np.array([0, 1]), targets, np.array([0, 0])).tolist() == [[0.5], [0.5]]
    assert weights.of(np.array([0, 1]), targets, np.array([1, 1])).tolist() == [[0.5], [1.5]]


def test_a_fold_in_which_no_image_counts_is_told() -> None:
    with pytest.raises(InputError, match="all images that this fold trains on have the weight 0"):
        loss_weights(competition(ABC), np.zeros((2, 1), np.int64), np.zeros(2, np.float32))


@pytest.mark.parametrize(("power", "expected"), [(1.0, [1 / 3] * 3), (0.5, [0.42, 0.32, 0.26])])
def test_a_sampler_draws_rare_classes_more_often(power: float, expected: list[float]) -> None:
    targets = np.array([[0]] * 500 + [[1]] * 300 + [[2]] * 200)
    cumulative = np.cumsum(sampling_shares(competition(ABC), targets, power))
    order = drawn(3, 0, cumulative)
    assert len(order) == 1000
    assert np.bincount(targets[order, 0]) / 1000 == pytest.approx(expected, abs=0.01)
    assert not np.array_equal(order, drawn(3, 1, cumulative))
    assert np.array_equal(order, drawn(3, 0, cumulative))


def test_of_several_labels_the_rarest_decides() -> None:
    targets = np.array([[1, 1], [1, 0], [1, 0], [0, 0]])
    labels = Head(name="tags", classes=("common", "rare"), kind="labels")
    assert sampling_shares(competition(labels), targets, 1.0) == pytest.approx(np.array([3, 1, 1, 3]) / 8)


def write(path: Path, *lines: str) -> Path:
    """Write lines and return the path."""
    path.write_text("\n".join([*lines, ""]))
    return path


def test_soft_labels_replace_those_of_the_images_they_name(tmp_path: Path) -> None:
    file = write(tmp_path / "soft.csv", "image_path,c,a,b", "train/2.png,0.5,0.25,0.25", "train/9.png,1,0,0")
    paths, targets = Texts.of(["train/1.png", "train/2.png"]), np.array([[1], [0]])
    known = Texts.of(["train/1.png", "train/2.png", "train/9.png"])  # one is held out
    found = soft_targets(file, competition(ABC), paths, targets, known)
    assert found.tolist() == [[0, 1, 0], [0.25, 0.25, 0.5]]
    grade = competition(replace(ABC, kind="ordinal"))
    assert soft_targets(file, grade, paths, targets, known) == pytest.approx(np.array([[1, 0], [0.75, 0.5]]))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image_path,a,b", "x,1,0"], "line 1: no column 'c'"),
        (["image_path,a,b,c,d", "x,1,0,0,0"], "line 1: an unknown column 'd'"),
        (["image_path,a,b,c", "x,1,0,0", "y,0.5,0.2,0.2"], "line 3: the probabilities sum to 0.9, not 1"),
        (["image_path,a,b,c", "x,1.5,-0.5,0"], "line 2: a is '1.5', not a probability"),
        (["image_path,a,b,c", "x,1,0,0", "z,1,0,0"], "line 3: 'z' is not in labels.csv; image_paths are such as"),
        (["image_path,a,b,c", "x,1,0,0", "x,1,0,0"], "line 3: 'x' appears twice"),
        (["image_path,a,b,c", "x,,1,0"], "line 2: a is '', not a probability"),
    ],
)
def test_soft_labels_that_are_none_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    file = write(tmp_path / "soft.csv", *lines)
    with pytest.raises(InputError, match=message):
        soft_targets(file, competition(ABC), Texts.of(["x"]), np.array([[0]]), Texts.of(["x", "y"]))


def test_contrast_tells_views_of_one_image_from_those_of_others() -> None:
    directions = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 1.0]], requires_grad=True)
    target = torch.tensor([4, 4, 9, 7])  # the last two have no other view
    found = contrastive(directions, target, 0.0, temperature=0.5)
    near = np.exp(2 / np.sqrt(2))  # of the diagonal one to the first two
    expected = -np.log(np.exp(2) / (np.exp(2) + 1 + near))
    assert found.item() == pytest.approx(expected, abs=1e-5)
    found.backward()
    assert directions.grad is not None
    assert directions.grad.isfinite().all()
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert contrastive(directions, target, 0.0, weight, temperature=0.5).item() == pytest.approx(expected, abs=1e-5)
    assert contrastive(directions, torch.arange(4), 0.0).item() == 0


def test_contrast_is_least_where_all_views_of_an_image_agree() -> None:
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    together = torch.eye(2)[target]
    assert contrastive(together, target, 0.0) < contrastive(torch.eye(6), target, 0.0)
    assert contrastive(together, target, 0.0).item() == pytest.approx(np.log(2 + 3 * np.exp(-5)), abs=1e-5)
