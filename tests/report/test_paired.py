"""Paired differences: intervals, tests, and what is skipped of a comparison."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions.spec import Competition, Head
from src.config import SweepConfig
from src.inference.ensemble import OutOfFold
from src.inference.rules import decide_out_of_fold
from src.metrics import scored
from src.report.intervals import difference_over_seeds
from src.report.paired import Pair, changed_sides, difference_of, mcnemar, newcombe, pair_of, parts_of
from src.sweeping import table as sweep_table
from src.sweeping.plan import Member


def arrays(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, gained, lost, neither]
    return np.repeat([True, False, True, False], counts), np.repeat([True, True, False, False], counts)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [  # of Newcombe's paper, table III, method 10
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((36, 14, 0, 0), (0.1528, 0.4167)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),
        ((0, 30, 0, 0), (0.8395, 1.0)),
    ],
)
def test_newcombes_interval_is_that_of_the_paper(counts: tuple[int, ...], interval: tuple[float, float]) -> None:
    assert newcombe(*arrays(*counts)) == pytest.approx(interval, abs=6e-5)


def test_mcnemars_test_looks_at_changed_images_only() -> None:
    assert mcnemar(*arrays(5, 0, 0, 90)) == 1.0
    assert mcnemar(*arrays(50, 8, 1, 50)) == pytest.approx(2 * (1 + 9) / 2**9)


def competition(**options: Any) -> Competition:
    settings: dict[str, Any] = {
        "name": "pets",
        "image_size": (8, 8),
        "hflip_ok": True,
        "columns": ("id", "label"),
    } | options
    reader = lambda files: pd.DataFrame()  # noqa: E731
    settings.setdefault("heads", (Head(name="pet", classes=("cat", "dog", "owl")),))
    return Competition(read_train=reader, read_test=reader, **settings)


def run_of(of: Competition, target: np.ndarray, predicted: np.ndarray, **table: Any) -> OutOfFold:
    count = len(target)
    labels = pd.DataFrame({"image_path": [f"{at}.png" for at in range(count)], "fold": 0, "group": np.arange(count)})
    decided = decide_out_of_fold(predicted, target, of, labels["group"].to_numpy())
    return OutOfFold(
        competition=of, labels=labels.assign(**table), probabilities=predicted, target=target,
        answers=scored(predicted, of), decided=decided, views=(), complete=True, optimistic=False,
    )  # fmt: skip


def one_hot(answers: np.ndarray, width: int = 3) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[answers] * 0.8 + 0.1


def test_only_common_images_with_the_same_label_are_compared() -> None:
    target = np.arange(9)[:, None] % 3
    one = run_of(competition(), target, one_hot(np.zeros(9, int)))
    moved = target[::-1].copy()
    moved[0, 0] = (moved[0, 0] + 1) % 3
    paths = [f"{at}.png" for at in reversed(range(9))]
    columns = {"image_path": ["new.png", *paths[1:]], "fold": [0] * 4 + [1] * 5}
    other = run_of(competition(), moved, one_hot(moved[:, 0]), **columns)
    pair = pair_of(one, other)
    assert isinstance(pair, Pair)
    assert pair.one.labels["image_path"].tolist() == pair.other.labels["image_path"].tolist() == paths[:0:-1]
    assert np.array_equal(pair.one.target, pair.other.target)
    assert difference_of(pair).value == pytest.approx(1 - 3 / 8)
    assert pair.notes == (
        "on the 8 images that both answered, of 9 and 9",
        "5 images were held out in another fold: the networks that answer them saw other images",
    )
    gained, lost = changed_sides(pair)
    assert set(gained) == {1, 2, 4, 5, 7}
    assert len(lost) == 0
    ((title, measure, parts),) = parts_of(pair)
    assert (title, measure) == ("class", "recall")
    assert [(part.name, part.images, part.one, part.other) for part in parts] == [
        ("cat", 3, 1.0, 1.0),
        ("dog", 3, 0.0, 1.0),
        ("owl", 2, 0.0, 1.0),
    ]
    relabelled = run_of(competition(), (target + 1) % 3, one_hot(target[:, 0]))
    assert pair_of(one, relabelled) == "no image was answered by both"
    assert pair_of(one, replace(one, competition=competition(heads=(Head(name="pet", classes=("a", "b")),)))) == (
        "they were trained for other classes"
    )


def test_groups_and_other_metrics_get_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (60, 1))
    runs = [one_hot(np.where(rng.random(60) < share, target[:, 0], rng.integers(0, 3, 60))) for share in (0.3, 0.9)]
    for of, table, how in (
        (competition(metric="macro_f1"), {}, "a bootstrap over 60 groups"),
        (competition(), {"group": np.arange(60) // 6}, "a bootstrap over 10 groups, fewer than 20: rough"),
    ):
        pair = pair_of(*(run_of(of, target, predicted, **table) for predicted in runs))
        assert isinstance(pair, Pair)
        found = difference_of(pair)
        assert found.how == how
        assert found.p_value is None
        assert 0 < found.low < found.value < found.high


def test_a_sweep_does_not_take_images_of_a_group_as_independent() -> None:
    target = np.repeat(np.arange(90) % 3, 4)[:, None]
    right = np.repeat(np.random.default_rng(0).random(90) < 0.5, 4)
    one, other = one_hot(np.zeros(360, int)), one_hot(np.where(right, target[:, 0], 0))
    widths = []
    for table in ({}, {"group": np.arange(360) // 4}):
        runs = [[run_of(competition(), target, predicted, **table)] for predicted in (one, other)]
        difference, half = difference_over_seeds(*runs)
        assert difference == pytest.approx(runs[1][0].score - runs[0][0].score)
        widths.append(half)
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.2)  # four images alike count as one


def test_a_sweep_compares_the_seeds_that_both_have_and_no_run_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = np.arange(90)[:, None] % 3
    good, poor = (one_hot(np.where(np.arange(90) < count, target[:, 0], 0)) for count in (81, 45))
    made = {"a0": poor, "a1": good, "b1": good, "c0": good, "c1": good}
    found = {name: run_of(competition(), target, predicted) for name, predicted in made.items()}
    monkeypatch.setattr(sweep_table, "_out_of_fold", lambda _, member: found.get(member.name))
    members = [
        Member(name=f"{name}{seed}", settings={"lr": name}, seed=seed, flags=(), epochs=1)
        for name in "abc"
        for seed in (0, 1)
    ]
    rows = sweep_table.summarise(SweepConfig(), members, failed={"c1"}).set_index("lr")
    assert rows["seeds"].tolist() == [2, 1, 1]
    assert rows.loc["b", "difference"] == pytest.approx(0)  # of seed 1
    assert rows.loc["c", "difference"] == pytest.approx(found["c0"].score - found["a0"].score)
    rows = sweep_table.summarise(SweepConfig(), members, failed={"a1"}).set_index("lr")
    assert bool(rows["difference"].isna()["b"])  # no seed in common


def test_numbers_are_compared_by_how_near_they_are() -> None:
    of = competition(heads=(Head(name="age", kind="number", scale=(5.0, 2.0)),), metric="mae")
    target = np.arange(20, dtype=np.float32)[:, None]
    off = np.where(np.arange(20) < 5, 2.0, -0.5).astype(np.float32)[:, None]
    pair = pair_of(run_of(of, target, target + 1), run_of(of, target, target + off))
    assert isinstance(pair, Pair)
    prepared_again = replace(of, heads=(replace(of.heads[0], scale=(5.1, 2.1)),))  # with one image more
    assert isinstance(pair_of(run_of(of, target, target), run_of(prepared_again, target, target)), Pair)
    gained, lost = changed_sides(pair)
    assert (set(gained), set(lost)) == (set(range(5, 20)), set(range(5)))
    ((title, measure, parts),) = parts_of(pair)
    assert (title, measure, len(parts)) == ("value", "mean absolute error", 10)
    assert [part.one for part in parts] == [1.0] * 10
