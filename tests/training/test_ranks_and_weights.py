"""Ranks that share batches come to the loss of one process where images and classes count differently."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file as read_weights

from tests.drawing import write_image
from tests.fixtures import DrawImage, Podium
from tests.ranks import NETWORK, train

FILE = '''"""A class of three, one of them rare, and what each image counts."""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="rare", id_column="id", label_column="label", weight_column="weight", image_size=(32, 48)
)
'''
FLAGS = ("--competition", "rare.py", "--backbone", "plain.py", "--no-pretrained", "--batch-size", "8", "--fold", "0",
         "--epochs", "3", "--lr", "0.003")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--sampler", "balanced", "--class-weights", "--mixup", "0.2"),
        ("--sampler", "sqrt", "--soft-labels", "soft.csv", "--cutmix", "0.5", "--loss", "focal", "--accumulate", "2"),
        ("--sampler", "balanced", "--cache-on-device", "on"),
    ],
    ids=["class weights", "soft labels", "on the device"],
)
def test_two_ranks_have_the_loss_of_one_process(
    tmp_path: Path, podium: Podium, draw_image: DrawImage, flags: tuple[str, ...]
) -> None:
    folder = tmp_path / "input" / "rare"
    for number in range(50):
        write_image(folder / "train" / f"{number}.png", draw_image(500 + number))
    write_image(folder / "test" / "0.png", draw_image(499))
    rows = [f"{number},{'aaaabbc'[number % 7]},{1 + number % 3}" for number in range(50)]
    (folder / "train.csv").write_text("\n".join(["id,label,weight", *rows, ""]))
    (folder / "sample_submission.csv").write_text("id,label\n0,a\n")
    (tmp_path / "rare.py").write_text(FILE)
    (tmp_path / "plain.py").write_text(NETWORK)
    soft = [f"train/{number}.png,0.5,0.25,0.25" for number in range(0, 50, 3)]
    (tmp_path / "soft.csv").write_text("\n".join(["image_path,a,b,c", *soft, ""]))
    assert podium("prepare", "--competition", "rare.py", "--num-folds", 2).code == 0
    logs, weights = [], []
    for ranks in (1, 2):
        train(tmp_path, ranks, *FLAGS, *flags, "--run-name", f"run{ranks}")
        fold = tmp_path / "runs" / "rare" / f"run{ranks}" / "fold0"
        logs.append(pd.read_csv(fold / "log.csv"))
        weights.append(read_weights(fold / "last.safetensors"))
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], atol=2e-5)
    assert logs[0]["score"].tolist() == logs[1]["score"].tolist()
    assert max((one - weights[1][name]).abs().max().item() for name, one in weights[0].items()) < 1e-5
