"""The choice follows the time: more time gives more epochs, then more folds; too little, a probe or a clear line."""

import time
from pathlib import Path

import pytest

from src.competitions.spec import load_competition
from src.planning.plan import Choice, Data, Rates, choose, total_seconds
from src.planning.recipes import RECIPES, recipes_for
from src.planning.record import AutoRecord, Clock, open_record
from src.planning.training import Dropped, Guard, Replan

DATA = Data(num_images=4000, num_test=1500, num_views=5, num_folds=5, fold_size=800, holdout_size=800)
FAST, SLOW = Rates(train=250, predict=800), Rates(train=100, predict=400)
NAMED = {recipe.name: recipe for recipe in RECIPES}


def chosen(seconds: float, data: Data = DATA) -> Choice | None:
    return choose([(NAMED["strings"], SLOW), (NAMED["smaller strings"], FAST)], data, seconds)


def test_more_time_gives_more_and_never_more_than_there_is() -> None:
    seen = []
    for seconds in (60, 120, 240, 600, 1200, 2400, 4800, 9600):
        choice = chosen(seconds)
        if choice is None:
            continue
        assert choice.seconds <= seconds
        assert choice.seconds == total_seconds(DATA, choice.rates, choice.epochs, choice.folds)
        assert choice.epochs * 3200 >= choice.recipe.least
        seen.append((choice.folds, choice.epochs, choice.recipe.name))
    folds = [one[0] for one in seen]
    assert folds == sorted(folds)
    assert seen[0][2] == "smaller strings"
    assert (seen[-1][0], seen[-1][2]) == (5, "strings")
    assert chosen(20) is None


def test_the_users_folds_are_what_is_planned_with() -> None:
    own = Data(num_images=4000, num_test=1500, num_views=5, num_folds=1, fold_size=1500)
    choice = chosen(9600, own)
    assert choice is not None
    assert choice.folds == 1
    assert own.num_val(1) == 1500


def test_every_recipe_says_where_it_was_tested_and_every_competition_has_one() -> None:
    assert all("benchmarks/results/" in recipe.tested for recipe in RECIPES)
    for name in ("svhn", "food11", "mnist", "cifar10"):
        for pretrained in (True, False):
            for shorter in (28, 64, 224):
                assert recipes_for(load_competition(name), shorter, pretrained), (name, shorter)


def guard_at(tmp_path: Path, left: float, **values: object) -> Guard:
    """Return a guard of 10 epochs with so many seconds left before those of predicting."""
    clock = Clock(AutoRecord(competition="svhn", minutes=10), tmp_path / "auto.json", time.monotonic() - 600 + left + 5)
    default: dict[str, object] = {"fold": 0, "epochs": 10, "tail": 5, "is_first": True, "may_replan": True}
    return Guard(clock=clock, **(default | values))  # type: ignore[arg-type]


def epochs(number: int, seconds: float = 10.0) -> list[dict[str, float]]:
    return [{"seconds": seconds}] * number


def test_the_guard_ends_a_late_training_in_time(tmp_path: Path) -> None:
    assert not guard_at(tmp_path, left=82)(epochs(2))
    with pytest.raises(Replan, match="10.0 s"):
        guard_at(tmp_path, left=70)(epochs(2))
    late = guard_at(tmp_path, left=15)
    assert not late(epochs(7))  # one more fits
    late = guard_at(tmp_path, left=8)
    assert late(epochs(7))
    assert late.ended_early == 7
    assert late.clock.record.events
    with pytest.raises(Dropped):
        guard_at(tmp_path, left=8, is_first=False)(epochs(7))
    assert guard_at(tmp_path, left=8, is_first=False)(epochs(8))
    assert not guard_at(tmp_path, left=8, may_replan=False)(epochs(10))


def test_the_clock_counts_on_after_a_kill(tmp_path: Path) -> None:
    clock = Clock(AutoRecord(competition="svhn", minutes=10), tmp_path / "auto.json", time.monotonic() - 240)
    clock.save()
    again = Clock(open_record(tmp_path / "auto.json", "svhn", 10), tmp_path / "auto.json", time.monotonic() - 60)
    assert again.left == pytest.approx(300, abs=2)
