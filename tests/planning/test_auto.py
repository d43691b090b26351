"""auto makes a validated submission in time, says why, resumes after a kill, and prints commands that do the same."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.core.signals import Stopped
from src.planning.recipes import PROBE, Recipe
from src.planning.training import Dropped, Guard
from src.planning.work import Work
from tests.fixtures import MakeSvhn, Podium
from tests.world import run_command

TINY = Recipe(
    name="tiny", flags={"backbone": "string_cnn", "pretrained": "False", "image_size": "32 48", "batch_size": "4"},
    start="scratch", tested="here", good=10, max_epochs=3,
)  # fmt: skip
FLAGS = ("--minutes", 5, "--no-pretrained")


@pytest.fixture
def folder(svhn: MakeSvhn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a tiny svhn, where other commands run in this process, and one recipe is known."""
    svhn(num_train=12, num_val=6, num_test=3)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        extra = ("--num-processes", 1, "--num-folds", 2) if command[2] == "src.prepare" else ()
        ended = run_command(tmp_path, command[2].removeprefix("src."), *command[3:], *extra)
        return subprocess.CompletedProcess(command, ended.code, ended.out, ended.err)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("src.planning.recipes.RECIPES", (TINY,))
    monkeypatch.setattr("src.planning.measuring.MIN_STEPS", 1)
    monkeypatch.setattr("src.planning.looking.MAX_SECONDS", 0.01)
    return tmp_path


def test_a_killed_auto_resumes_to_a_validated_submission(
    folder: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, calls = Guard.__call__, iter(range(100))

    def stopping(guard: Guard, history: list[dict[str, float]]) -> bool:
        if next(calls) == 1:
            raise Stopped(15)
        return asked(guard, history)

    monkeypatch.setattr(Guard, "__call__", stopping)
    ended = podium("auto", *FLAGS)
    assert ended.code == 143, ended.err
    used = json.loads((folder / "runs/svhn/auto.json").read_text())["seconds_used"]
    ended = podium("auto", *FLAGS)
    assert ended.code == 0, ended.err
    assert "fold 0: resumes after epoch 2" in ended.out
    assert "measured" not in ended.out
    record = json.loads((folder / "runs/svhn/auto.json").read_text())
    assert record["seconds_used"] > used > 0
    assert record["folds_trained"] == [0, 1]
    assert "chosen: tiny" in record["reasons"][0]
    assert (folder / record["submission"]).is_file()
    script = (folder / "runs/svhn/auto.sh").read_text().splitlines()
    commands = [shlex.split(line) for line in script if line.startswith("python")]
    assert [command[2] for command in commands] == ["src.prepare", "src.train", "src.evaluate", "src.predict"]
    again = podium("train", *commands[1][3:])
    assert "fold 1: already trained" in again.out, again.err
    assert "already done" in podium("auto", *FLAGS).out
    refused = podium("auto", "--minutes", 6, "--no-pretrained")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "was started with --minutes 5, not 6" in refused.err
    assert "was started with --seed 0, not 1" in podium("auto", *FLAGS, "--seed", 1).err
    (folder / "runs/svhn/auto.json").unlink()
    refused = podium("auto", *FLAGS)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "runs/svhn/auto: already exists and was not made by auto" in refused.err


def test_the_commands_that_it_keeps_make_the_same_submission(folder: Path, podium: Podium) -> None:
    ended = podium("auto", *FLAGS)
    assert ended.code == 0, ended.err
    clean = folder / "clean"
    shutil.copytree(folder / "input", clean / "input")
    for line in (folder / "runs/svhn/auto.sh").read_text().splitlines():
        if line.startswith("python"):
            command = shlex.split(line)[2:]
            extra = ("--num-processes", 1, "--num-folds", 2) if command[0] == "src.prepare" else ()
            ended = run_command(clean, command[0].removeprefix("src."), *command[1:], *extra)
            assert ended.code == 0, ended.err
    for name in ("submissions/svhn/auto.csv", "runs/svhn/auto/fold1/last.safetensors"):
        assert (clean / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("flags", [("--split", "holdout"), ("--image-size", "40", "56"), ("--num-folds", "2")])
def test_what_the_user_prepared_is_used(folder: Path, podium: Podium, flags: tuple[str, ...]) -> None:
    assert podium("prepare", *flags).code == 0
    ended = podium("auto", *FLAGS)
    assert ended.code == 0, ended.err
    record = json.loads((folder / "runs/svhn/auto.json").read_text())
    assert record["own_folds"] == (flags[0] != "--image-size")
    assert record["prepare_flags"] == " ".join(flags)
    assert f"prepared already with {' '.join(flags)}: " in ended.out
    assert record["commands"][0].endswith(" ".join(flags))
    assert podium("auto", *FLAGS, "--run-name", "second").code == 0  # the first one's record does not make it auto's
    assert json.loads((folder / "runs/svhn/second.json").read_text())["prepare_flags"] == " ".join(flags)


def test_a_fold_that_was_given_up_is_not_begun_again(
    folder: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    def giving_up(guard: Guard, history: list[dict[str, float]]) -> bool:
        if guard.fold == 1:
            raise Dropped
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "__call__", giving_up)
        patch.setattr("src.planning.session.evaluate", lambda work: (_ for _ in ()).throw(Stopped(15)))
        assert podium("auto", *FLAGS).code == 143
    ended = podium("auto", *FLAGS)
    assert ended.code == 0, ended.err
    assert "epoch 1/" not in ended.out
    assert json.loads((folder / "runs/svhn/auto.json").read_text())["folds_trained"] == [0]


def test_a_first_fold_is_finished_however_late_it_is(
    folder: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "__call__", lambda guard, history: (_ for _ in ()).throw(Stopped(15)))
        assert podium("auto", *FLAGS).code == 143
    monkeypatch.setattr(Work, "predict_seconds", lambda *_: 1e6)
    ended = podium("auto", *FLAGS)
    assert ended.code == 0, ended.err
    assert json.loads((folder / "runs/svhn/auto.json").read_text())["folds_trained"] == [0]


def test_too_little_time_is_one_line_before_anything_is_trained(
    folder: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.planning.plan.COMMAND_SECONDS", 1000)
    ended = podium("auto", *FLAGS)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "give more time" in ended.err


def test_the_probe_is_a_recipe_of_its_own() -> None:
    assert PROBE.is_probe
    assert not TINY.is_probe
