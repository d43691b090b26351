"""MNIST and CIFAR-10, raw or in files, from prepare to a submission; grey networks; image sizes above the cache's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from src.core.csv_text import parse_csv
from src.models.network import Normalise
from tests.fixtures import Finished, MakeCifar10, MakeMnist, Podium
from tests.helpers import table_at

THINGS = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
NET = ("--no-pretrained", "--epochs", 1, "--batch-size", 6)


def done(ended: Finished) -> str:
    """Assert that a command succeeded; return its output."""
    code, out, err = ended
    assert code == 0, err
    return out


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


@pytest.mark.parametrize(
    ("name", "packing", "backbone"),
    [
        ("mnist", "gz", "resnet_mnist"),
        ("mnist", "kaggle", "svhn_cnn"),
        ("fashion_mnist", "idx", "resnet_mnist"),
        ("cifar10", "folder", "svhn_cnn"),
        ("cifar10", "batches", "svhn_cnn"),
    ],
)
def test_all_commands_run_on_tiny_images(
    name: str, packing: str, backbone: str, request: pytest.FixtureRequest, podium: Podium, tmp_path: Path
) -> None:
    request.getfixturevalue(name)(num_train=30, num_test=7, packing=packing)
    competition = ("--competition", name)
    out = done(podium("prepare", *competition, "--split", "holdout", "--num-val", 10))
    assert "held out by fold: 0: 10" in out
    assert "problems" not in out
    assert "note:" not in done(podium("train", *competition, *NET, "--backbone", backbone))
    done(podium("evaluate", *competition))
    done(podium("predict", *competition))

    cifar = name == "cifar10"
    run = tmp_path / "runs" / name / "baseline"
    facts = json.loads((run / "fold0" / "fold.json").read_text())
    assert (facts["num_train"], facts["num_val"]) == (20, 10)
    model = json.loads((run / "run.json").read_text())["model"]
    assert model["image_size"] == ([32, 32] if cifar else [28, 28])
    assert len(model["mean"]) == (3 if cifar else 1)
    first = next(value for value in weights_of(run / "fold0").values() if value.ndim == 4)
    assert first.shape[1] == (3 if cifar else 1)
    assert json.loads((run / "evaluation" / "scores.json").read_text())["num_images"] == 10
    path = tmp_path / "submissions" / name / "baseline.csv"
    table = parse_csv(path.read_bytes(), path.name)
    assert list(table.columns) == (["id", "label"] if cifar else ["ImageId", "Label"])
    assert table.iloc[:, 0].tolist() == [str(i + 1) for i in range(7)]
    assert set(table.iloc[:, 1]) <= (THINGS if cifar else set("0123456789"))


def test_the_same_digits_in_other_file_formats_give_the_same_network(
    mnist: MakeMnist, podium: Podium, tmp_path: Path
) -> None:
    competition = ("--competition", "mnist", "--runs-dir")
    networks = []
    for packing in ("gz", "idx", "kaggle"):
        mnist(packing=packing)
        done(podium("prepare", *competition, packing, "--split", "holdout", "--num-val", 5))
        done(podium("train", *competition, packing, *NET, "--backbone", "resnet_mnist"))
        networks.append((tmp_path / packing / "mnist" / "baseline" / "fold0" / "last.safetensors").read_bytes())
        (tmp_path / "input").rename(tmp_path / f"was {packing}")
    assert networks[0] == networks[1] == networks[2]


def test_grey_images_become_one_normalised_channel() -> None:
    grey = torch.arange(2 * 4 * 6, dtype=torch.uint8).mul_(5).view(2, 4, 6, 1)
    normalised = Normalise((0.5,), (0.25,), 6)(grey.expand(2, 4, 6, 3))
    assert normalised.shape == (2, 1, 4, 6)
    torch.testing.assert_close(normalised[:, 0], (grey[..., 0].float() / 255 - 0.5) / 0.25)


def test_colour_images_keep_three_channels_normalised_separately() -> None:
    images = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    normalised = Normalise(mean, std, 5)(images)
    assert normalised.shape == (2, 3, 4, 5)
    for channel in range(3):
        expected = (images[..., channel].float() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel], expected)


@pytest.mark.parametrize(("name", "size"), [("mnist", (44, 28)), ("cifar10", (48, 40))])
def test_an_image_size_above_the_caches_is_allowed_with_a_note(
    name: str, size: tuple[int, int], request: pytest.FixtureRequest, podium: Podium, tmp_path: Path
) -> None:
    request.getfixturevalue(name)()
    competition = ("--competition", name)
    done(podium("prepare", *competition, "--split", "holdout", "--num-val", 5))
    out = done(podium("train", *competition, *NET, "--backbone", "svhn_cnn", "--image-size", *size))
    side = 28 if name == "mnist" else 32
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert f"stretched from the cache's {side}x{side}" in notes[0]
    assert (
        f"python -m src.prepare --competition {name} --split holdout --num-val 5 --image-size {size[0]} {size[1]}"
        in notes[0]
    )
    run = tmp_path / "runs" / name / "baseline"
    assert json.loads((run / "run.json").read_text())["model"]["image_size"] == list(size)
    assert weights_of(run / "fold0")["backbone.head.weight"].shape[1] > 32  # 32 at the cache's size: a single position
    done(podium("predict", *competition))
    with np.load(tmp_path / "submissions" / name / "baseline.npz") as kept:
        assert kept["probabilities"].shape == (6, 10)
        np.testing.assert_allclose(kept["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_a_holdout_is_scored_and_the_rest_is_trained_on(cifar10: MakeCifar10, podium: Podium, tmp_path: Path) -> None:
    cifar10()
    done(podium("prepare", "--competition", "cifar10", "--split", "holdout", "--num-val", 4))
    done(podium("train", "--competition", "cifar10", *NET, "--backbone", "svhn_cnn", "--fold", "all"))
    folds = table_at(tmp_path / "runs" / "cifar10", "folds")
    with np.load(tmp_path / "runs" / "cifar10" / "baseline" / "fold0" / "oof.npz") as oof:
        assert sorted(oof["image_path"]) == sorted(folds["image_path"][folds["fold"] == 0])
        assert len(oof["image_path"]) == 4
