"""The choice follows the time: more time gives more epochs, then more folds; too little, a probe or a clear line."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from src.competitions.registry import load_competition
from src.config import AutoConfig
from src.core.errors import InputError
from src.planning.looking import can_probe, flags_of_recipe, size_of, start_of, train_config
from src.planning.plan import Choice, Data, Rates, choose, total_seconds
from src.planning.recipes import RECIPES, Recipe, Start, recipes_for
from src.planning.record import AutoRecord, Clock, open_record
from src.planning.training import Dropped, Guard, Replan

DATA = Data(num_images=4000, num_test=1500, num_views=5, num_folds=5, fold_size=800, holdout_size=800)
FAST, SLOW = Rates(train=250, predict=800), Rates(train=100, predict=400)
STARTS: tuple[Start, ...] = ("photos", "scratch", "texts")
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
        for start in STARTS[:2]:
            for shorter in (28, 64, 224):
                assert recipes_for(load_competition(name), shorter, start), (name, shorter)


def test_a_recogniser_reads_strings_as_narrow_as_their_places(tmp_path: Path) -> None:
    svhn, food = load_competition("svhn"), load_competition("food11")
    recipe = recipes_for(svhn, 64, "texts")[0]
    config = AutoConfig(competition="svhn", weights=tmp_path / "a.onnx")
    flags = flags_of_recipe(config, recipe, (64, 128), svhn)
    assert flags["image_size"] == "48 64"
    assert flags["backbone_options"] == "characters=0123456789"
    assert train_config(config, flags, "auto").backbone == "text_recognition"
    clock = Clock(AutoRecord(competition="food11", minutes=10), tmp_path / "auto.json", time.monotonic())
    with pytest.raises(InputError, match="food11's answers are not strings"):
        start_of(config, food, (64, 64), clock)


def test_features_of_random_weights_are_not_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    food = load_competition("food11")
    clock = Clock(AutoRecord(competition="food11", minutes=10), tmp_path / "auto.json", time.monotonic())
    ours = AutoConfig(competition="food11", backbone="resnet_cifar")
    assert start_of(ours, food, (32, 32), clock) == "photos"
    assert "pretrained weights: resnet_cifar has none; give --weights" in capsys.readouterr().out
    assert not can_probe(ours, food, (32, 32))
    assert can_probe(replace(ours, backbone="test_resnet"), food, (32, 32))
    assert can_probe(replace(ours, weights=tmp_path / "a.safetensors"), food, (32, 32))


def test_a_mistyped_tag_of_weights_is_refused(tmp_path: Path) -> None:
    clock = Clock(AutoRecord(competition="food11", minutes=10), tmp_path / "auto.json", time.monotonic())
    config = AutoConfig(competition="food11", backbone="test_resnet.no_such_tag")
    with pytest.raises(InputError, match="Invalid pretrained tag"):
        start_of(config, load_competition("food11"), (32, 32), clock)


def test_any_alphabet_reaches_the_recogniser(tmp_path: Path) -> None:
    svhn = load_competition("svhn")
    heads = tuple(replace(head, classes=("a", " ", "'", "")) for head in svhn.heads)
    odd = replace(svhn, heads=heads, pad_class=3, class_names=())
    config = AutoConfig(competition="svhn", weights=tmp_path / "a.onnx")
    flags = flags_of_recipe(config, recipes_for(odd, 64, "texts")[0], (64, 128), odd)
    assert train_config(config, flags, "auto").backbone_options == ("characters=a '",)


def test_sizes_are_those_of_the_shorter_side() -> None:
    food = load_competition("food11")
    for shorter, size, expected in ((96, (128, 128), (96, 96)), (96, (384, 512), (96, 128)), (64, (32, 32), (64, 64))):
        recipe = Recipe(name="a", tested="", shorter=shorter)
        assert size_of(recipe, size, food) == expected
    assert size_of(Recipe(name="a", tested=""), (384, 512), food) == (384, 512)


def test_few_images_are_seen_more_often_than_many() -> None:
    few = Data(num_images=120, num_test=10, num_views=10, num_folds=5, fold_size=24, holdout_size=24)
    choice = choose([(NAMED["64 pixels"], FAST)], few, 3600)
    assert choice is not None
    assert choice.epochs * 96 >= NAMED["64 pixels"].least


def guard_at(tmp_path: Path, left: float, **values: object) -> Guard:
    """Return a guard of 10 epochs with so many seconds left before those of predicting."""
    clock = Clock(AutoRecord(competition="svhn", minutes=10), tmp_path / "auto.json", time.monotonic() - 600 + left + 5)
    default: dict[str, object] = {"fold": 0, "epochs": 10, "tail": 5, "is_first": True, "may_replan": True, "most": 24,
                                  "affordable": lambda seconds: int(left / seconds)}  # fmt: skip
    return Guard(clock=clock, **(default | values))  # type: ignore[arg-type]


def epochs(number: int, seconds: float = 10.0) -> list[dict[str, float]]:
    return [{"seconds": seconds}] * number


def test_the_guard_ends_a_late_training_in_time(tmp_path: Path) -> None:
    assert not guard_at(tmp_path, left=82)(epochs(2))
    assert not guard_at(tmp_path, left=70)(epochs(2))  # nine of ten will fit: better than to begin again with six
    with pytest.raises(Replan, match="10.0 s"):
        guard_at(tmp_path, left=60)(epochs(2))
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


def test_a_first_fold_that_is_quick_begins_again_with_more_epochs(tmp_path: Path) -> None:
    with pytest.raises(Replan):
        guard_at(tmp_path, left=130)(epochs(1))
    assert not guard_at(tmp_path, left=120)(epochs(1))
    assert not guard_at(tmp_path, left=200)(epochs(2))  # too much of it would be lost
    assert not guard_at(tmp_path, left=200, most=10)(epochs(1))
    assert not guard_at(tmp_path, left=200, is_first=False)(epochs(1))
    assert not guard_at(tmp_path, left=200, may_replan=False)(epochs(1))


def test_the_clock_counts_on_after_a_kill(tmp_path: Path) -> None:
    file, config = tmp_path / "auto.json", AutoConfig(minutes=10)
    clock = Clock(open_record(file, config, "svhn"), file, time.monotonic() - 240)
    clock.save()
    again = Clock(open_record(file, config, "svhn"), file, time.monotonic() - 60)
    assert again.left == pytest.approx(300, abs=2)
    longer = replace(config, minutes=20)
    assert open_record(file, longer, "svhn").minutes == 20  # nothing was trained yet
    (tmp_path / "auto").mkdir()
    with pytest.raises(InputError, match=r"was started with --minutes 10, not 20; use another .*\(auto\)"):
        open_record(file, longer, "svhn")
