"""What a training says while it runs: units, time left, time in all."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from src.competitions.layout import HeadLayout
from src.models.build import build_model
from tests.conftest import TRAIN
from tests.fixtures import Podium
from tests.helpers import run_at


def test_the_time_of_a_run_counts_what_came_before_an_interruption(
    svhn: Callable[..., Path], podium: Podium, tmp_path: Path
) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    assert podium("train", *TRAIN).code == 0
    fold = run_at(tmp_path / "runs" / "svhn" / "baseline").open_fold(0)
    fold.finish(replace(fold.result, seconds=3600.0))
    assert re.search(r"trained for 60 min in all, this command took \d s:", podium("train", *TRAIN).out)


def test_the_time_left_is_that_of_all_folds(svhn: Callable[..., Path], podium: Podium) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    out = podium("train", *TRAIN[:-2], "--fold", "all").out
    assert len(re.findall(r"^fold \d epoch .* \d+ s left$", out, flags=re.MULTILINE)) == 6


def test_a_linear_probe_says_that_it_computes_features_and_counts_features(
    svhn: Callable[..., Path], podium: Podium, tmp_path: Path
) -> None:
    svhn()
    weights = tmp_path / "weights.safetensors"
    save_file(build_model("test_resnet", HeadLayout((66,)), (32, 48)).state_dict(), weights)
    assert podium("prepare", "--num-folds", 2).code == 0
    flags = ("--backbone", "test_resnet", "--weights", weights, "--freeze-backbone", "--image-size", 32, 48)
    out = podium("train", *flags, "--batch-size", 4, "--epochs", 2, "--fold", 0).out
    assert "computing features of 18 images once" in out
    assert len(re.findall(r"score [\d.]+, [\d,]+ features/s", out)) == 2
    assert "images/s" not in out
