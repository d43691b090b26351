"""NAME:instances pretrains a network on all images of NAME, without their labels."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from tests.fixtures import MakeFood11, MakeSvhn, Podium

INSTANCES = ("--competition", "food11:instances")
SMALL = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 32, 32, "--batch-size", 8, "--epochs", 1)


def test_every_image_is_a_class_of_its_own(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    food11(num_per_class=2, num_val=3, num_test=5)
    made = podium("prepare", *INSTANCES, "--split", "holdout", "--num-val", 2)
    assert made.code == 0, made.err
    assert "do not look like classes" not in made.out
    assert "images of each" not in made.out
    labels = pd.read_csv(next((tmp_path / "runs/food11_instances/prepared").glob("*/labels.csv")))
    assert sorted(labels["instance"]) == list(range(16))  # 8, 3 and 5
    assert labels["image_path"].str.startswith("testing/").sum() == 5


def test_training_with_labels_starts_from_its_features(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    food11(num_per_class=2)
    assert podium("prepare", *INSTANCES, "--split", "holdout", "--num-val", 2).code == 0
    trained = podium("train", *INSTANCES, *SMALL, "--run-name", "alone", "--fold", 0)
    assert trained.code == 0, trained.err
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


def test_nothing_of_it_is_scored_or_handed_in(food11: MakeFood11, podium: Podium) -> None:
    food11(num_per_class=2)
    assert podium("prepare", *INSTANCES, "--split", "holdout", "--num-val", 2).code == 0
    assert podium("train", *INSTANCES, *SMALL, "--fold", 0).code == 0
    for command in ("evaluate", "predict"):
        refused = podium(command, *INSTANCES)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "its networks are for train --weights" in refused.err


def test_strings_and_their_boxes_are_left_behind(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    made = podium("prepare", "--competition", "svhn:instances", "--split", "holdout", "--num-val", 2)
    assert made.code == 0, made.err
    labels = pd.read_csv(next((tmp_path / "runs/svhn_instances/prepared").glob("*/labels.csv")))
    assert "boxes" not in labels
    assert labels["instance"].is_unique
