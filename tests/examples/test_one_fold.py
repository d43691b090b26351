"""The training that is written out for readers ends with the bits of the command's."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import one_fold
from src.core import cli
from tests.fixtures import Podium
from tests.helpers import run_at

MAX_LINES = 100
FLAGS = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", "32", "48", "--batch-size", "4",
         "--epochs", "3", "--fold", "1", "--lr", "0.01")  # fmt: skip


def test_the_example_reaches_the_score_of_the_command(
    svhn: Callable[..., Path], podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    svhn(num_train=14, num_val=6)
    assert podium("prepare", "--num-folds", 2).code == 0
    ended = podium("train", *FLAGS)
    assert ended.code == 0
    monkeypatch.setattr(sys, "argv", ["one_fold.py", *FLAGS])
    cli.run(one_fold.main, one_fold.TrainConfig, one_fold.__doc__)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fold 1 epoch ")]
    trained = [line for line in ended.out.splitlines() if line.startswith("fold 1 epoch ")]
    assert len(shown) == 3
    # The losses, to the last digit shown:
    assert [line.split(", score ")[0] for line in shown] == [line.split(", score ")[0] for line in trained]
    score = run_at(tmp_path / "runs" / "svhn" / "baseline").open_fold(1).result.score
    assert float(shown[-1].rsplit(" ", 1)[1]) == pytest.approx(score, abs=1e-4)


def test_the_example_is_short() -> None:
    assert len(Path(one_fold.__file__).read_text().splitlines()) <= MAX_LINES
