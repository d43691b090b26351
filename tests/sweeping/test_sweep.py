"""A sweep trains every combination as it would be trained alone, tries again what fails, and compares."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.config import SweepConfig
from src.core.errors import InputError
from src.report.intervals import paired_difference
from src.sweeping.engines import gpu_slots
from src.sweeping.plan import Task, members
from tests.fixtures import Finished, Podium
from tests.sweeping.sweeps import SET, prepared, weights
from tests.world import refused

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["prepared"]


def test_runs_are_named_by_what_differs_between_them() -> None:
    found = members(SweepConfig(set=("lr=1e-3,2e-3", "augment.rotate=0,10", "epochs=3"), seed=(0, 7)))
    assert len(found) == 8
    assert [member.name for member in found[:2]] == ["sweep-lr1e-3-rotate0-s0", "sweep-lr1e-3-rotate10-s0"]
    assert found[-1].name == "sweep-lr2e-3-rotate10-s7"
    assert found[0].settings == {"lr": "1e-3", "augment.rotate": "0"}
    command = Task(member=found[4], fold=3).command(restart=False)
    assert command[:2] == ["-m", "src.train"]
    assert " ".join(command).endswith("--seed 7 --lr 1e-3 --augment.rotate 0 --epochs 3 --fold 3")


def test_a_switch_is_written_in_any_case() -> None:
    found = members(SweepConfig(set=("pretrained=true,False",)))
    assert [member.flags[-1] for member in found] == ["--pretrained", "--no-pretrained"]


def test_one_at_a_time_tries_each_value_alone_one_seed_after_another() -> None:
    given = ("lr=1e-3,2e-3", "pseudo-labels=default,sweep-base-s0 other", "epochs=3")
    found = members(SweepConfig(set=given, seed=(0, 7), one_at_a_time=True))
    assert [member.settings["change"] for member in found[:3]] == [
        "base", "lr=2e-3", "pseudo_labels=sweep-base-s0 other"
    ]  # fmt: skip
    assert [member.name for member in found] == [
        f"sweep-{name}-s{seed}" for seed in (0, 7) for name in
        ("base", "lr2e-3", "pseudo_labelssweep-base-s0-other")
    ]  # fmt: skip
    flags = [" ".join(member.flags).split(" --seed 0 ")[1] for member in found[:3]]
    assert flags == [
        "--lr 1e-3 --epochs 3", "--lr 2e-3 --epochs 3",
        "--lr 1e-3 --pseudo-labels sweep-base-s0 other --epochs 3",
    ]  # fmt: skip
    with pytest.raises(InputError, match="no flag in --set has a second value"):
        members(SweepConfig(set=("lr=1e-3",), one_at_a_time=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lr", "give a flag of train and its values"),
        ("lr=", "give a flag of train and its values"),
        ("lr=1,,2", "give a flag of train and its values"),
        ("lr=1e-3,1e-3", "a value appears twice"),
        ("seed=1,2", "seed is a flag of sweep itself"),
        ("learning_rate=1", "^--learning-rate: unknown flag; see python -m src.train --help$"),
        ("views='a", "^--views 'a: no closing quotation$"),
        ("epochs=many", "^--epochs many: give a whole number; see python -m src.train --help$"),
        ("weights=/a/m.safetensors,/b/m.safetensors", "two runs would be called sweep-weightsm.safetensors-s0"),
    ],
)
def test_a_mistake_in_set_is_one_line_before_anything_is_trained(given: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        members(SweepConfig(set=(given,)))


def test_what_train_would_refuse_ends_the_sweep_before_it_begins(prepared: Path, podium: Podium) -> None:
    for flags, said in (
        (("--set", "backbone=string_cnm"), "--backbone string_cnm: no such network; nearest: string_cnn"),
        ((), "--set: give flags of train and the values to compare"),
    ):
        refused(podium("sweep", "--competition", "svhn", *flags), said)


def test_the_paired_difference_is_that_of_a_hand_worked_case() -> None:
    one, other = np.array([1, 1, 0, 0.0]), np.array([1, 1, 1, 0.0])
    mean, half = paired_difference(one, other)
    assert mean == pytest.approx(0.25)
    assert half == pytest.approx(1.96 * 0.5 / 2)


@pytest.mark.parametrize("fold", [0, pytest.param("all", marks=pytest.mark.slow)])
def test_every_combination_is_trained_as_it_would_be_alone(prepared: Path, podium: Podium, fold: int | str) -> None:
    ended = podium("sweep", *SET, "lr=1e-3,3e-3", "--tasks", 2, "--run-name", "s", "--fold", fold)
    assert ended.code == 0, ended.err
    count = 4 if fold == "all" else 2
    assert f"{count} trainings, engine local" in ended.out
    assert f"{count}/{count}  s-lr" in ended.out
    table = pd.read_csv(prepared / "runs" / "svhn" / "s.csv")
    assert table["lr"].tolist() == [0.001, 0.003]
    assert table["seeds"].tolist() == [1, 1]
    assert table["difference"].notna().tolist() == [False, True]
    flags = ("--backbone", "string_cnn", "--no-pretrained", "--epochs", 2, "--batch-size", 4, "--image-size", 32, 48)
    assert podium("train", *flags, "--lr", 3e-3, "--run-name", "alone", "--fold", fold).code == 0
    assert weights(prepared / "runs/svhn/alone") == weights(prepared / "runs/svhn/s-lr3e-3-s0")
    assert podium("prepare", "--num-folds", 2, "--image-size", 24, 36).code == 0
    again = podium("sweep", *SET, "lr=1e-3,3e-3", "--run-name", "s", "--fold", fold, "--seed", 0, 1, "--redo")
    refused(again, "at 64x128, new runs would be on", "at 24x36; use another --run-name, or delete this run")
    assert podium("prepare", "--num-folds", 3).code == 0
    again = podium("sweep", *SET, "lr=1e-3,3e-3", "--run-name", "s", "--fold", fold, "--seed", 0, 1)
    refused(again, "was trained on snapshot", "use another --run-name, or delete this run")


@pytest.mark.slow
def test_a_training_that_is_killed_is_resumed(prepared: Path) -> None:
    flags = [str(part) for part in (*SET[:3], "epochs=60", *SET[4:])]
    command = [sys.executable, "-m", "src.sweep", *flags, "--fold", "0", "--run-name", "s"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=prepared, env=environment, text=True, stdout=subprocess.PIPE) as sweep:
        state = prepared / "runs" / "svhn" / "s-s0" / "fold0" / "last.pt"
        deadline = time.monotonic() + 60
        while not state.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (child,) = subprocess.run(["pgrep", "-P", str(sweep.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(child), signal.SIGKILL)
        out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0
    assert "1/1  s-s0 fold 0, started 2 times: " in out


@pytest.mark.slow
def test_a_training_that_fails_for_good_is_told_and_the_others_go_on(prepared: Path, podium: Podium) -> None:
    (prepared / "cut.safetensors").write_bytes(b"x")
    ended: Finished = podium(
        "sweep", *SET, "lr=1e-3", "weights=default,cut.safetensors", "--run-name", "s", "--fold", 0
    )
    assert ended.code == 2
    assert "1 of 2 trainings failed, such as s-weightscut.safetensors-s0 fold 0" in ended.err
    assert "error: --weights cut.safetensors: not a complete weights file" in ended.out
    table = pd.read_csv(prepared / "runs" / "svhn" / "s.csv")
    assert table["seeds"].tolist() == [1, 0]


def test_without_ray_the_line_says_what_to_install(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = podium("sweep", *SET, "--engine", "ray")
    assert (ended.code, ended.err) == (
        2, "error: --engine ray: Ray is not installed; pip install -r requirements-ray.txt\n"
    )  # fmt: skip


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a task print which GPU it sees instead of training."""
    code = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES')); sys.exit(int(os.environ.get('CODE', '0')))"
    monkeypatch.setattr(Task, "command", lambda self, restart: ["-c", code])


@pytest.mark.parametrize(
    ("given", "share", "expected"), [("0,2", 1, {"0", "2"}), ("GPU-1", 0.5, {"GPU-1"}), ("7", 0, {"7"})]
)
def test_a_local_training_sees_the_gpu_that_it_was_given(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch, shown: None, given: str, share: float,
    expected: set[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    ended = podium("sweep", "--seed", *range(4), "--fold", 0, "--tasks", 4, "--gpus-per-task", share)
    assert set(re.findall(r"^\d/4 .*: (.*)$", ended.out, flags=re.MULTILINE)) == expected, ended.out + ended.err


def test_as_many_trainings_share_a_gpu_as_fit() -> None:
    assert gpu_slots(1, ["0", "1"]) == ["0", "1"]
    assert gpu_slots(0.5, ["0", "1"]) == ["0", "1", "0", "1"]
    assert gpu_slots(0.3, ["0"]) == ["0"] * 3
    assert gpu_slots(0.1, ["0"]) == ["0"] * 10


@pytest.mark.parametrize(("share", "words"), [(0.5, "has no GPU, or CUDA_VISIBLE_DEVICES hides it"), (2, "at most 1")])
def test_gpus_that_are_not_there_are_one_line(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch, share: float, words: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ended = podium("sweep", "--set", "epochs=1", "--gpus-per-task", share)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert words in ended.err


def test_a_training_that_goes_on_failing_is_tried_again_as_often_as_allowed(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch, shown: None
) -> None:
    monkeypatch.setenv("CODE", "1")
    ended = podium("sweep", "--set", "epochs=1", "--fold", 0, "--retries", 2)
    assert (ended.code, ended.err) == (
        2, "error: 1 of 1 trainings failed, such as sweep-s0 fold 0; see its line above\n"
    )  # fmt: skip
    assert ended.out.count("failed, is queued again  sweep-s0 fold 0") == 2
    assert "1/1  sweep-s0 fold 0, started 3 times" in ended.out


@pytest.mark.slow
def test_a_run_that_exists_with_other_settings_is_refused(prepared: Path, podium: Podium) -> None:
    assert podium("sweep", *SET, "lr=1e-3", "--run-name", "s", "--fold", 0).code == 0
    ended = podium("sweep", *SET, "lr=2e-3", "--run-name", "s", "--fold", 0)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "1/1  s-s0 fold 0: error: " in ended.out
    assert pd.read_csv(prepared / "runs" / "svhn" / "s.csv")["seeds"].tolist() == [0]
