"""--space is read with train's own types and checks; a mistake is one line."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from src.competitions.registry import load_competition
from src.config import Paths
from src.core.errors import InputError
from src.searching.space import check_space, read_space


def test_ranges_lists_and_fixed_values_get_the_types_of_trains_flags() -> None:
    space = read_space(
        ("lr=1e-4..1e-2:log", "epochs=8..24", "augment.rotate=0..20:step=5", "backbone=resnet18,svhn_cnn",
         "image-size=32 64,64 128", "freeze_backbone=True,False", "batch_size=32")
    )  # fmt: skip
    assert space.searched == {
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "epochs": IntDistribution(8, 24),
        "augment.rotate": FloatDistribution(0, 20, step=5),
        "backbone": CategoricalDistribution(["resnet18", "svhn_cnn"]),
        "image_size": CategoricalDistribution(["32 64", "64 128"]),
        "freeze_backbone": CategoricalDistribution(["True", "False"]),
    }
    assert space.fixed == {"batch_size": "32"}
    flags = space.flags({"lr": 0.00123456, "image_size": "32 64", "freeze_backbone": "False"})
    assert flags == ["--batch-size", "32", "--lr", "0.001235", "--image-size", "32", "64", "--no-freeze-backbone"]


def test_the_defaults_are_known_if_all_of_them_are_in_the_space() -> None:
    assert read_space(("lr=1e-3..1e-2", "ema=0,0.998")).defaults() == {"lr": 2e-3, "ema": "0.998"}
    assert read_space(("lr=3e-3..1e-2",)).defaults() is None
    assert read_space(("augment.rotate=1..16:step=5",)).defaults() is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "nothing to search"),
        (("epochs=3",), "nothing to search"),
        (("learning_rate=0..1",), "train has no flag 'learning_rate'"),
        (("epoch=1..2",), "did you mean epochs?"),
        (("lr",), "give a flag of train and its values"),
        (("lr=2e-3..1e-3",), "the first end must be less than the second"),
        (("lr=0..1:log",), ":log needs ends above 0"),
        (("lr=1..x",), "'x' is not a number"),
        (("epochs=1.5..3",), "'1.5' is not a whole number"),
        (("epochs=1..3:step=9",), "the step must be above 0 and at most 2"),
        (("epochs=1..3:cube",), "no option 'cube'"),
        (("loss=a..b",), "loss is not a number"),
        (("lr=1e-3,1e-3",), "a value is empty or there twice"),
        (("lr=0..1", "lr=0..2"), "lr appears twice"),
        (("run_name=a,b",), "run_name is a flag of search itself"),
    ],
)
def test_a_mistake_in_the_space_is_one_line(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")) as error:
        read_space(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("dropout=0..2",), "--space dropout=2: --dropout 2.0: must be at least 0"),
        (("backbone=resnet18,resnet19x",), "--space backbone=resnet19x: .*no such network"),
        (("epochs=many,3",), "--space epochs=many: --epochs many: give a whole number"),
        (("loss=cross_entropy,nonsense",), "--space loss=nonsense: --loss nonsense: there are"),
        (("cutmix=0..1",), "would cut strings apart"),
        (("lr=1e-3..1e-2", "weights=nowhere.safetensors"), "no such file"),
    ],
)
def test_what_train_would_refuse_is_refused_before_anything_is_trained(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_space(read_space(given), Paths(competition="svhn"), load_competition("svhn"))


def test_weights_of_this_competitions_own_runs_are_refused_as_they_may_have_seen_the_reported_fold(
    tmp_path: Path,
) -> None:
    def check(name: str) -> None:
        file = tmp_path / name / "baseline" / "fold0" / "best.safetensors"
        file.parent.mkdir(parents=True)
        file.touch()
        space = read_space(("lr=1e-4..1e-2", f"weights={file}"))
        check_space(space, Paths(competition="svhn", runs_dir=tmp_path), load_competition("svhn"))

    with pytest.raises(InputError, match="was trained on this competition's images"):
        check("svhn")
    check("food11")  # of other images


@pytest.mark.parametrize("name", ["start-from", "pseudo-labels"])
def test_flags_that_name_other_runs_are_refused(name: str) -> None:
    space = read_space(("lr=1e-4..1e-2", f"{name}=baseline"))
    with pytest.raises(InputError, match="names another run, and trials see none"):
        check_space(space, Paths(competition="svhn"), load_competition("svhn"))
