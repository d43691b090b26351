"""Processes killed at random moments: the same command again ends where an uninterrupted one does, to the last bit."""

import hashlib
import itertools
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.runs.checkpoint import has_state, load_state
from tests.conftest import TRAIN
from tests.trust.conftest import Commands

FLAGS = (*TRAIN, "--competition", "svhn", "--save-every", 0, "--ema", 0.9)
KILLS_A_RUN = 6


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tensors(state: Any) -> list[torch.Tensor]:
    """Return all tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [found for value in state.values() for found in tensors(value)]
    if isinstance(state, list | tuple):
        return [found for value in state for found in tensors(value)]
    return []


def trained(cwd: Path, run: str) -> tuple[list[str], list[torch.Tensor]]:
    """Return what a training leaves: hashes of weights, their average and out-of-fold answers; all of its state."""
    folder = cwd / "runs" / "svhn" / run / "fold0"
    state = load_state(folder / "last.pt")
    kept = {key: state[key] for key in ("network", "optimizer", "ema")}
    return [sha256(folder / name) for name in ("last.safetensors", "best.safetensors", "oof.npz")], tensors(kept)


def saved_step(folder: Path) -> int:
    """Return how many steps the checkpoint holds that the next start would go on from."""
    return int(load_state(folder / "last.pt")["step"]) if has_state(folder / "last.pt") else 0


def assert_same(found: tuple[list[str], list[torch.Tensor]], wanted: tuple[list[str], list[torch.Tensor]]) -> None:
    assert found[0] == wanted[0]
    assert len(found[1]) == len(wanted[1])
    assert all(torch.equal(one, other) for one, other in zip(found[1], wanted[1], strict=True))


@pytest.fixture
def prepared(svhn: Callable[..., Path], commands: Commands) -> Commands:
    """Return commands in a folder where a tiny svhn is prepared."""
    svhn(num_train=12, num_val=6, num_test=3)
    commands.run("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    return commands


def usual_seconds(commands: Commands, *train: object) -> float:
    """Train the runs `straight` and `again`; return the seconds of the second one, whose files are in memory."""
    commands.run(*train, "--run-name", "straight")
    return commands.run(*train, "--run-name", "again")


def leftovers(cwd: Path) -> list[Path]:
    return list(cwd.rglob("*.tmp"))


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_while_training(prepared: Commands, figure: Callable[[str], None], count: int) -> None:
    rng, cwd = random.Random(count), prepared.cwd
    seconds = usual_seconds(prepared, "train", *FLAGS)
    prepared.run("predict", "--competition", "svhn", "--run-name", "straight")
    wanted = trained(cwd, "straight")
    answers = sha256(cwd / "submissions" / "svhn" / "straight.csv")
    kills = in_saving = runs = 0
    repeated = []
    while kills < count:
        run, runs = f"run{runs}", runs + 1
        folder = cwd / "runs" / "svhn" / run / "fold0"
        for _ in range(KILLS_A_RUN):
            before, made_before = saved_step(folder), (cwd / "steps").stat().st_size
            code = prepared.killed(rng.uniform(0, seconds), signal.SIGKILL, "train", *FLAGS, "--run-name", run)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            in_saving += bool(leftovers(folder)) if folder.exists() else 0
            made = (cwd / "steps").stat().st_size - made_before
            repeated.append(before + made - saved_step(folder))
        prepared.run("train", *FLAGS, "--run-name", run)
        assert_same(trained(cwd, run), wanted)
        assert leftovers(folder) == []
        prepared.run("predict", "--competition", "svhn", "--run-name", run)
        assert sha256(cwd / "submissions" / "svhn" / f"{run}.csv") == answers
    assert max(repeated) <= 1
    assert min(repeated) >= 0
    figure(
        f"SIGKILL while training: {kills} kills in {runs} runs, {in_saving} with a file half written: 0 lost, "
        f"0 corrupt; weights, average, optimizer, out-of-fold and submission identical {runs} of {runs}; "
        f"steps repeated: {sum(repeated)}, at most {max(repeated)} a kill"
    )


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_two_commands_on_one_run(
    prepared: Commands, podium: Callable[..., tuple[int, str, str]], figure: Callable[[str], None], count: int
) -> None:
    cwd = prepared.cwd
    prepared.run("train", *FLAGS, "--run-name", "straight")
    wanted = trained(cwd, "straight")
    for attempt in range(count):
        flags = ("train", *FLAGS, "--run-name", f"run{attempt}")
        first = prepared.start_and_freeze(1 + attempt % 5, *flags)
        code, _, err = podium(*flags)
        assert code == 2, err
        assert f"process {first} is training fold0" in err
        os.kill(first, signal.SIGKILL)
        assert prepared.ended() == -signal.SIGKILL
        prepared.run(*flags)
        assert_same(trained(cwd, f"run{attempt}"), wanted)
    figure(f"a second command on the same run: refused {count} of {count}; free again after kill -9 of the first")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_asked_to_stop_while_training(
    prepared: Commands, figure: Callable[[str], None], count: int, number: signal.Signals
) -> None:
    rng, cwd, longest = random.Random(count), prepared.cwd, 0.0
    seconds = usual_seconds(prepared, "train", *FLAGS)
    wanted, stops = trained(cwd, "straight"), 0
    for attempt in itertools.count():
        if stops == count:
            break
        run = f"run{attempt}"
        code, waited = prepared.stopped(rng.uniform(0, seconds), number, "train", *FLAGS, "--run-name", run)
        if code == 0:  # too late: it had ended
            assert attempt < 20 * (stops + 1), "it never stops"
            continue
        assert code in (128 + number, -number), (cwd / "err").read_text()  # the latter before src.core.cli has begun
        longest = max(longest, waited)
        stops += 1
        prepared.run("train", *FLAGS, "--run-name", run)
        assert_same(trained(cwd, run), wanted)
    assert longest < 5
    figure(f"{number.name} while training: {stops} of {stops} go on identically; ended within {longest:.2f} s")


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_while_preparing(
    svhn: Callable[..., Path], commands: Commands, figure: Callable[[str], None], count: int
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    rng, cwd = random.Random(count), commands.cwd
    flags = ("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    commands.run(*flags, "--runs-dir", "straight")
    seconds = commands.run(*flags, "--runs-dir", "again")
    wanted = {path.name: sha256(path) for path in sorted((cwd / "straight/svhn/prepared").iterdir())}
    kills = half = runs = 0
    while kills < count:
        place, runs = f"runs/{runs}", runs + 1
        for _ in range(KILLS_A_RUN):
            code = commands.killed(rng.uniform(0, seconds), signal.SIGKILL, *flags, "--runs-dir", place)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            half += bool(leftovers(cwd))
        commands.run(*flags, "--runs-dir", place)
        found = {path.name: sha256(path) for path in sorted((cwd / place / "svhn/prepared").iterdir())}
        assert found == wanted
    figure(f"SIGKILL while preparing: {kills} kills, {half} with a file half written: 0 wrong results in {runs} runs")


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_while_predicting(prepared: Commands, figure: Callable[[str], None], count: int) -> None:
    rng, cwd = random.Random(count), prepared.cwd
    prepared.run("train", *FLAGS)
    flags = ("predict", "--competition", "svhn", "--run-name", "baseline")
    prepared.run(*flags)
    (prepared.cwd / "runs/svhn/baseline/fold0/test.npz").unlink()
    seconds = prepared.run(*flags)
    submission = cwd / "submissions" / "svhn" / "baseline.csv"
    answers = cwd / "runs" / "svhn" / "baseline" / "fold0" / "test.npz"
    wanted, kills, cut = sha256(submission), 0, 0
    while kills < count:
        for path in (submission, answers):
            path.unlink(missing_ok=True)
        for _ in range(KILLS_A_RUN):
            code = prepared.killed(rng.uniform(0, seconds), signal.SIGKILL, *flags)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            cut += not submission.exists()
            assert not submission.exists() or sha256(submission) == wanted
        prepared.run(*flags)
        assert sha256(submission) == wanted
    figure(f"SIGKILL while predicting: {kills} kills, {cut} before the submission was there: 0 wrong submissions")
