"""Views by name, of another size, and those that help, chosen out of fold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src.competitions import food11
from src.competitions.spec import Head
from src.competitions.svhn import COMPETITION as STREET
from src.core.errors import InputError
from src.data.tta import warped
from src.inference.views import candidates, choose_views
from src.metrics import score_of
from tests.fixtures import Podium, Train

ONE = replace(food11.COMPETITION, heads=(Head(name="label", classes=("a", "b", "c")),), class_names=())


def test_views_are_those_that_are_named_and_the_original() -> None:
    assert list(candidates((), STREET, (64, 64))) == ["original", "left", "right", "zoom in", "zoom out"]
    assert list(candidates(("left", "larger"), STREET, (64, 64))) == ["original", "left", "larger"]
    assert list(candidates(("auto", "smaller"), STREET, (64, 64)))[-2:] == ["zoom out", "smaller"]
    with pytest.raises(InputError, match="--views upside: there are 'original', 'left'"):
        candidates(("upside",), STREET, (64, 64))
    with pytest.raises(InputError, match="--views left, flipped"):
        candidates(("left, flipped",), STREET, (64, 64))


def test_a_view_of_another_size_shows_the_whole_image() -> None:
    images = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    images[:, :32] = 200
    size = candidates(("larger",), STREET, (64, 96))["larger"]
    assert size == (80, 120)
    seen = warped(images, size, False)
    assert seen.shape == (2, 80, 120, 3)
    assert (seen[:, :38] == 200).all()
    assert (seen[:, 42:] == 0).all()


def test_a_view_that_harms_is_left_out_and_the_choice_is_cross_validated() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (300, 1))
    truth = np.eye(3, dtype=np.float32)[target[:, 0]]

    def view(strength: float) -> np.ndarray:
        noisy = np.clip(strength * truth + rng.random((300, 3)), 0.01, None)
        return (noisy / noisy.sum(axis=1, keepdims=True)).astype(np.float32)

    each = np.stack([view(0.5), view(0.5), view(-0.8), view(0.5)])
    chosen = choose_views(["original", "left", "bad", "right"], each, target, ONE, np.arange(300))
    assert chosen.names == ("original", "left", "right")
    assert score_of(chosen.predicted, target, ONE) > score_of(each[0], target, ONE) + 0.03
    assert np.allclose(chosen.predicted, each[[0, 1, 3]].mean(axis=0))


def test_a_run_chooses_its_views_and_predict_answers_with_them(train: Train, podium: Podium, tmp_path: Path) -> None:
    flags = ("--backbone", "test_resnet", "--no-pretrained", "--epochs", 1, "--fold", "all")
    _, ended = train("chosen", *flags, "--views", "auto", "larger")
    assert ended.code == 0, ended.err
    assert podium("evaluate", "--run-name", "chosen")[0] == 0
    scores = json.loads((tmp_path / "runs" / "svhn" / "chosen" / "evaluation" / "scores.json").read_text())
    assert scores["views"][0] == "original"
    assert podium("predict", "--run-name", "chosen")[0] == 0
    note = json.loads((tmp_path / "submissions" / "svhn" / "chosen.json").read_text())
    assert note["runs"][0]["views"] == scores["views"]
    assert podium("predict", "--run-name", "chosen", "--no-tta", "--name", "plain")[0] == 0


def test_a_network_that_takes_one_size_only_is_told_before_it_is_trained(train: Train) -> None:
    _, ended = train("fixed", "--backbone", "food_cnn", "--no-pretrained", "--epochs", 1, "--views", "larger")
    assert ended.code == 2, ended.err
    assert len(ended.err.splitlines()) == 1
