"""NAME:instances pretrains a network on all images of NAME, without their labels."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import tyro
from safetensors.torch import load_file

from src.competitions.registry import load_competition
from src.config import ServeConfig, TrainConfig
from src.core.errors import InputError
from src.core.world import World
from src.runs.ranks import check_batch
from src.serving.answering import open_answerer
from src.training.checks import check_flags, without_effect
from tests.fixtures import MakeFood11, MakeSvhn, Podium
from tests.training.test_trainer import stop_after_an_epoch
from tests.world import done, link, refused, run_command

OF_SVHN = ("--competition", "svhn:instances")
INSTANCES = ("--competition", "food11:instances")
SMALL = ("--backbone", "resnet_cifar", "--no-pretrained", "--image-size", 32, 32, "--batch-size", 8, "--epochs", 1)
CONTRAST = ("--loss", "contrastive", "--aug-repeats", 2)


def labels_of(tmp_path: Path, competition: str) -> pd.DataFrame:
    return pd.read_csv(next((tmp_path / f"runs/{competition}/prepared").glob("*/labels.csv")))


def test_every_image_is_a_class_of_its_own(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    folder = food11(num_per_class=2, num_val=3, num_test=12)
    (folder / "testing/0012.jpg").write_bytes((folder / "training/0_0.jpg").read_bytes())
    made = podium("prepare", *INSTANCES)
    assert made.code == 0, made.err
    assert "do not look like classes" not in made.out
    assert "images of each" not in made.out
    assert "problems: 1 train duplicate;" in made.out
    assert "23 usable labelled images; held out by fold: 0: 4" in made.out
    labels = labels_of(tmp_path, "food11_instances")
    assert labels["instance"].is_unique
    assert labels["image_path"].str.startswith("testing/").sum() == 13
    assert "training/0_0.jpg" not in set(labels["image_path"])  # the copy was kept


def test_training_with_labels_starts_from_its_features(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    food11(num_per_class=2)
    assert podium("prepare", *INSTANCES).code == 0
    trained = podium("train", *INSTANCES, *SMALL, "--run-name", "alone")
    assert trained.code == 0, trained.err
    assert "note: the score means nothing here" in trained.out
    weights = tmp_path / "runs/food11_instances/alone/fold0/last.safetensors"
    food = ("--competition", "food11")
    assert podium("prepare", *food, "--num-folds", 2).code == 0
    still = ("--lr", 1e-9, "--ema", 0, "--weights", weights)
    tuned = podium("train", *food, *SMALL, *still, "--run-name", "tuned", "--fold", 0)
    assert tuned.code == 0, tuned.err
    before, after = (load_file(path) for path in (weights, tmp_path / "runs/food11/tuned/fold0/last.safetensors"))
    learned = [name for name, value in before.items() if value.ndim > 1]
    same = [name for name in learned if before[name].shape == after[name].shape]
    assert len(same) == len(learned) - 1  # all but the last layer, which has 11 classes now
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in same)


@pytest.mark.parametrize(
    ("loss", "backbone", "least"),
    [
        ("contrastive", "resnet_cifar", 0.1),
        ("contrastive", "test_resnet", 0.1),  # timm's has a last layer that begins at zero
        ("simsiam", "test_resnet", 0.01),
        ("byol", "test_resnet", 0.01),
        ("rotation", "test_resnet", -1),  # pictures of noise have no right way up
        ("masked", "resnet_cifar", 0.1),
    ],
)
def test_training_without_labels_learns_and_resumes(
    food11: MakeFood11,
    podium: Podium,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    backbone: str,
    least: float,
) -> None:
    food11(num_per_class=2)
    assert podium("prepare", *INSTANCES).code == 0
    flags = (*INSTANCES, *SMALL, *CONTRAST, "--loss", loss, "--backbone", backbone, "--epochs", 5)
    straight = podium("train", *flags, "--run-name", "straight")
    assert straight.code == 0, straight.err
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        assert podium("train", *flags, "--run-name", "again").code == 130
    assert podium("train", *flags, "--run-name", "again").code == 0
    runs = tmp_path / "runs/food11_instances"
    first, second = (load_file(runs / name / "fold0/last.safetensors") for name in ("straight", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any("predict" in name or "target" in name for name in first)  # layers for the loss alone
    losses = pd.read_csv(runs / "straight/fold0/log.csv")["loss"]
    assert losses.iloc[-1] < losses.iloc[0] - least


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--competition", "food11"), "--loss contrastive: only pretrains; use it with --competition food11:instances"),
        (("--competition", "food11", "--loss", "masked"), "--loss masked: only pretrains; use it with --competition"),
        ((*INSTANCES, "--aug-repeats", 1), "--loss contrastive: compares copies of an image; give --aug-repeats 2"),
        ((*INSTANCES, "--aug-repeats", 1, "--loss", "simsiam"), "--loss simsiam: compares copies of an image; give"),
        (
            (*INSTANCES, "--aug-repeats", 8),
            "--loss contrastive: a batch of 8 has copies of only one image; give",
        ),
        ((*INSTANCES, "--aug-repeats", 3), "--batch-size 8 --aug-repeats 3: the copies of an image would be in two"),
        ((*INSTANCES, "--accumulate", 2), "--loss contrastive: needs a whole batch at once; leave --accumulate out"),
        (
            (*INSTANCES, "--loss", "masked", "--freeze-backbone", "--aug-repeats", 1),
            "--loss masked: cannot be combined ",
        ),
        ((*INSTANCES, "--loss", "simsiam", "--layer-decay", 0.7), "--loss simsiam: cannot be combined with --layer-d"),
        ((*INSTANCES, "--loss", "byol", "--sam", 0.05), "--loss byol: cannot be combined with --sam"),
        ((*INSTANCES, "--mixup", 0.2), "--loss contrastive: cannot be combined with --mixup"),
        ((*INSTANCES, "--soft-labels", "soft.csv"), "--loss contrastive: cannot be combined with --soft-labels"),
    ],
)
def test_what_does_not_go_with_training_without_labels_is_refused(flags: tuple[object, ...], said: str) -> None:
    config = tyro.cli(TrainConfig, args=[str(part) for part in (*SMALL, *CONTRAST, *flags)])
    with pytest.raises(InputError, match=said):
        check_flags(config, load_competition(config.competition))


def test_what_only_labels_need_is_told_to_do_nothing() -> None:
    config = TrainConfig(loss="rotation", class_weights=True, label_smoothing=0.1)
    said = [
        "label-smoothing does nothing with --loss rotation, which",
        "class-weights does nothing with --loss rotation",
    ]
    for note, start in zip(without_effect(config), said, strict=True):
        assert note.startswith(f"note: --{start}")
    assert without_effect(TrainConfig(loss="rotation", label_smoothing=0)) == []
    assert without_effect(TrainConfig(class_weights=True)) == []


@pytest.mark.parametrize("loss", ["contrastive", "simsiam", "byol"])
def test_ranks_do_not_compare_a_whole_batch(loss: str) -> None:
    with pytest.raises(InputError, match=f"--loss {loss}: .* start one process, not several ranks"):
        check_batch(TrainConfig(loss=loss, aug_repeats=2), World(0, 2))


@pytest.fixture(scope="module")
def trained(finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained run of svhn:instances."""
    folder = link(finished_world, tmp_path_factory.mktemp("instances") / "world")
    done(folder, "prepare", *OF_SVHN)
    done(folder, "train", *OF_SVHN, *SMALL)
    return folder


NO_ANSWERS = "svhn_instances: its answers are neither scored nor handed in"


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        ("evaluate", (), NO_ANSWERS),
        ("predict", (), NO_ANSWERS),
        ("compare", (), NO_ANSWERS),
        ("auto", ("--minutes", 1), NO_ANSWERS),
        ("sweep", ("--set", "lr=1e-3,2e-3"), NO_ANSWERS),
        ("search", ("--space", "lr=1e-3..2e-3"), NO_ANSWERS),
        ("train", ("--keep", "best", "--run-name", "b"), "--keep best: the score of svhn_instances means nothing"),
        ("train", ("--early-stopping", 3, "--run-name", "b"), "--early-stopping: the score of svhn_instances"),
        ("train", ("--backbone", "string_cnn", "--run-name", "b"), "--backbone string_cnn: is built for strings"),
        ("prepare", ("--split", "official"), "--split official: svhn_instances pretrains"),
        ("prepare", ("--folds", "folds.csv"), "--folds folds.csv: svhn_instances pretrains"),
        ("prepare", ("--relabel", "relabel.csv"), "--relabel relabel.csv: svhn_instances pretrains"),
    ],
)
def test_what_needs_a_score_or_an_answer_is_refused(
    trained: Path, command: str, flags: tuple[object, ...], said: str
) -> None:
    if command == "search":
        pytest.importorskip("optuna")
    refused(run_command(trained, command, *OF_SVHN, *flags), said)


def test_it_is_not_served(trained: Path) -> None:
    with pytest.raises(InputError, match=NO_ANSWERS):
        open_answerer(ServeConfig(competition="svhn:instances", input_dir=trained / "input", runs_dir=trained / "runs"))


def test_an_unknown_question_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="food11:box: no such competition; after the colon there can be boxes or ins"):
        load_competition("food11:box")


def test_strings_and_their_boxes_are_left_behind(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    made = podium("prepare", "--competition", "svhn:instances")
    assert made.code == 0, made.err
    labels = labels_of(tmp_path, "svhn_instances")
    assert "boxes" not in labels
    assert labels["instance"].is_unique
