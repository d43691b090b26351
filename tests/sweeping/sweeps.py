"""What the tests of sweeps share: a prepared competition and a small network."""

from pathlib import Path

import pytest

from tests.fixtures import MakeSvhn, Podium
from tests.helpers import run_at

SET = ("--set", "backbone=string_cnn", "pretrained=False", "epochs=2", "batch-size=4", "image_size=32 48")


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    svhn(num_train=12, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    return tmp_path


def weights(run: Path) -> list[str]:
    return [fold.result.weights_sha256 for fold in run_at(run).trained()]
