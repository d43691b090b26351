"""What the tests of training share: a function that trains one fold of a tiny svhn."""

from collections.abc import Callable
from pathlib import Path

import pytest

Podium = Callable[..., tuple[int, str, str]]

# Dropout, batch statistics, mixing, a moving average and Adam's moments: all that a resume could lose.
TRAIN = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--epochs", 3,
         "--mixup", 0.2, "--fold", 0)  # fmt: skip


@pytest.fixture
def train(
    svhn: Callable[..., Path], podium: Podium, tmp_path: Path
) -> Callable[..., tuple[Path, tuple[int, str, str]]]:
    """Return a function that trains fold 0 of a run, and returns the fold's folder and how the command ended.

    There are 9 images to train on in two batches of 4 per epoch (the last one comes in another epoch), for 3 epochs.
    A flag given to the function counts in place of ours.
    """
    svhn(num_train=12, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0

    def run(name: str, *flags: object) -> tuple[Path, tuple[int, str, str]]:
        ended = podium("train", *TRAIN, "--run", name, *flags)
        return tmp_path / "runs" / "svhn" / name / "fold0", ended

    return run
