"""A network file of one's own: each run keeps its copy, and an edited file is never mixed with what was trained."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures import MakeSvhn, Podium

NETWORK = """
import torch
from timm.models import register_model
from torch import nn


class Mine(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.stem, self.head = nn.Conv2d(in_chans, 8, 5, stride=4), nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(torch.ACTIVATION(self.stem(images)).mean(dim=(2, 3)))


@register_model
def mine(pretrained=False, **kwargs):
    return Mine(kwargs["num_classes"], kwargs["in_chans"])
"""
FLAGS = ("--backbone", "mine.py", "--no-pretrained", "--batch-size", 4, "--epochs", 1, "--lr", 0.1, "--ema", 0)


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    svhn(num_train=12, num_val=4, num_test=3)
    assert podium("prepare", "--num-folds", 2, "--image-size", 24, 32).code == 0
    write(tmp_path, "relu")
    return tmp_path


def write(folder: Path, activation: str) -> None:
    (folder / "mine.py").write_text(NETWORK.replace("ACTIVATION", activation))


def answers(folder: Path, name: str) -> np.ndarray:
    with np.load(folder / "submissions" / "svhn" / f"{name}.npz") as kept:
        return np.array(kept["probabilities"])


def test_runs_with_different_files_of_one_name_are_predicted_with_their_own(prepared: Path, podium: Podium) -> None:
    for run, activation in (("a", "relu"), ("b", "tanh"), ("c", "relu")):
        write(prepared, activation)
        assert podium("train", *FLAGS, "--run-name", run, "--seed", 1).code == 0
    (prepared / "mine.py").unlink()
    assert podium("predict", "--run-name", "a", "b", "c").code == 0
    for run in "abc":
        assert podium("predict", "--run-name", run).code == 0
    assert np.array_equal(answers(prepared, "a"), answers(prepared, "c"))
    assert np.abs(answers(prepared, "a") - answers(prepared, "b")).max() > 1e-6


def test_an_edited_file_is_a_changed_setting(prepared: Path, podium: Podium) -> None:
    assert podium("train", *FLAGS, "--fold", 0).code == 0
    write(prepared, "tanh")
    for fold in (0, 1):
        ended = podium("train", *FLAGS, "--fold", fold)
        assert ended.code == 2
        assert "was started with other settings (backbone: mine.py " in ended.err


def test_a_moved_file_is_the_same_network_and_a_lost_one_is_not_needed_to_resume(
    prepared: Path, podium: Podium
) -> None:
    assert podium("train", *FLAGS, "--fold", 0).code == 0
    (prepared / "nets").mkdir()
    (prepared / "mine.py").rename(prepared / "nets" / "mine.py")
    moved = ("--backbone", "nets/mine.py", *FLAGS[2:])
    assert podium("train", *moved, "--fold", 1).code == 0
    (prepared / "nets" / "mine.py").unlink()
    fold = prepared / "runs" / "svhn" / "baseline" / "fold0"
    (fold / "oof.npz").unlink()
    assert podium("train", *FLAGS, "--fold", 0).code == 0
    assert (fold / "oof.npz").exists()
    copy = ("--backbone", fold.with_name("mine.py"), *FLAGS[2:])
    assert podium("train", *copy, "--fold", 0, "--restart").code == 0
    assert fold.with_name("mine.py").read_text() == NETWORK.replace("ACTIVATION", "relu")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("self.head(torch", "self.tail(torch", "mine.py, line 13: AttributeError"),
        ("super().__init__()", "super().__init__(); undefined", "mine.py, line 9: NameError"),
        ("return self.head", "assert False; return self.head", "takes no images of 24x32 (AssertionError)"),
        ("super().__init__()", "super().__init__(); self.pretrained_cfg = {'mean': (0.5,)}", "has 1 values for 3"),
    ],
    ids=["forward", "constructor", "bare assert", "one mean"],
)
def test_a_mistake_in_the_file_is_one_line(prepared: Path, podium: Podium, old: str, new: str, words: str) -> None:
    path = prepared / "mine.py"
    path.write_text(path.read_text().replace(old, new))
    ended = podium("train", *FLAGS)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1


def test_a_network_without_pretrained_cfg_or_with_odd_attributes_is_taken(prepared: Path, podium: Podium) -> None:
    path = prepared / "mine.py"
    odd = "super().__init__(); self.pretrained_cfg = None; self.head_widths = 3"
    path.write_text(path.read_text().replace("super().__init__()", odd))
    assert podium("train", *FLAGS).code == 0
    record = json.loads((prepared / "runs" / "svhn" / "baseline" / "run.json").read_text())
    assert record["model"]["mean"] == [0.5, 0.5, 0.5]
