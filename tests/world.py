"""A finished piece of work to damage: two runs of two folds, predicted, blended and scored.

Built once in a session and hard-linked into each test's folder: commands replace files, they never change one in place.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from src.config import TrainConfig
from src.core import cli
from src.core.runtime import choose_compute
from src.runs.run import Run
from src.training.fold_data import FoldData, open_data
from src.training.pseudo_labels import pseudo_labels
from tests.conftest import TRAIN
from tests.fixtures import Finished
from tests.helpers import run_at

FLAGS = (*TRAIN[:-2], "--competition", "svhn", "--epochs", 2)
PREPARE = ("--competition", "svhn", "--num-folds", 2, "--num-processes", 1)


def run_command(cwd: Path, command: str, *flags: object) -> Finished:
    """Run `python -m src.<command> <flags>` in this process, in a folder."""
    module = importlib.import_module(f"src.{command}")
    patch, code = pytest.MonkeyPatch(), 0
    out, err = cwd / "out", cwd / "err"
    with patch.context(), open(out, "w") as stdout, open(err, "w") as stderr:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [f"{command}.py", *map(str, flags)])
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        try:
            cli.run(module.main, module.main.__annotations__["config"], module.__doc__)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        finally:
            patch.undo()
    return Finished(code, out.read_text(), err.read_text())


def done(cwd: Path, command: str, *flags: object) -> Finished:
    """Run a command that must succeed."""
    ended = run_command(cwd, command, *flags)
    assert ended.code == 0, ended.err
    return ended


def finish(cwd: Path) -> None:
    """Train, score, predict and blend the runs `baseline` and `other`."""
    for run, seed in (("baseline", 0), ("other", 1)):
        done(cwd, "train", *FLAGS, "--run-name", run, "--seed", seed, "--restart")
        done(cwd, "evaluate", "--run-name", run)
        done(cwd, "predict", "--run-name", run)
    done(cwd, "blend", "--run-name", "baseline", "other", "--rounds", 3, "--outer-folds", 2)


def link(source: Path, target: Path) -> Path:
    """Hard-link a tree."""
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
    return target


def refused(ended: Finished, *words: str) -> None:
    """Fail unless a command was refused with one line that holds these words."""
    assert ended.code == 2, ended.out
    assert ended.err.count("\n") == 1, ended.err
    for word in words:
        assert word in ended.err, ended.err


def fold_of(world: Path, number: int = 0, run: str = "baseline") -> Path:
    """Return the folder of a fold."""
    return world / "runs" / "svhn" / run / f"fold{number}"


def config_of(world: Path, **values: object) -> TrainConfig:
    default = {"batch_size": 4, "run_name": "student", "backbone": "string_cnn", "pretrained": False}
    return TrainConfig(competition="svhn", **(default | {"runs_dir": world / "runs"} | values))  # type: ignore[arg-type]


def data_of(world: Path, **values: object) -> tuple[Run, FoldData]:
    """Return a run of the finished world and what fold 0 of a new one like it reads."""
    config, run = config_of(world, **values), run_at(world / "runs" / "svhn" / "baseline")
    compute = choose_compute("cpu", "auto")
    labels = pseudo_labels(config, run, 0, compute, False)
    return run, open_data(config, run, 0, compute, None, labels)
