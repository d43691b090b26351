"""After a kill at a random moment, the same command resumes to a bit-identical result."""

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
from tests.fixtures import MakeSvhn, Podium
from tests.trust.conftest import Commands

FLAGS = (*TRAIN, "--competition", "svhn", "--save-every", 0, "--ema", 0.9)
KILLS_PER_RUN = 6


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
    """Return the result of a training: hashes of weights and oof.npz, and all tensors of its state."""
    folder = cwd / "runs" / "svhn" / run / "fold0"
    state = load_state(folder / "last.pt")
    kept = {key: state[key] for key in ("network", "optimizer", "ema")}
    return [sha256(folder / name) for name in ("last.safetensors", "best.safetensors", "oof.npz")], tensors(kept)


def saved_step(folder: Path) -> int:
    """Return the step of the checkpoint that the next start would resume from."""
    return int(load_state(folder / "last.pt")["step"]) if has_state(folder / "last.pt") else 0


def assert_same(found: tuple[list[str], list[torch.Tensor]], expected: tuple[list[str], list[torch.Tensor]]) -> None:
    assert found[0] == expected[0]
    assert len(found[1]) == len(expected[1])
    assert all(torch.equal(one, other) for one, other in zip(found[1], expected[1], strict=True))


@pytest.fixture
def prepared(svhn: MakeSvhn, commands: Commands) -> Commands:
    """Return commands in a folder with a prepared tiny svhn."""
    svhn(num_train=12, num_val=6, num_test=3)
    commands.run("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    return commands


def prepared_files(runs: Path) -> dict[str, str]:
    """Return the hash of each file that prepare leaves, but for its lock."""
    paths = [path for path in runs.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(runs)): sha256(path) for path in paths}


def warm_seconds(commands: Commands, *train: object) -> float:
    """Train the runs `straight` and `again`; return the seconds of the second, with a warm page cache."""
    commands.run(*train, "--run-name", "straight")
    return commands.run(*train, "--run-name", "again")


def temporaries(cwd: Path) -> list[Path]:
    return list(cwd.rglob("*.tmp"))


@pytest.mark.parametrize("count", [2, pytest.param(200, marks=pytest.mark.slow)])
def test_a_training_killed_at_random_moments_resumes_identically(
    prepared: Commands, figure: Callable[[str], None], count: int
) -> None:
    rng, cwd = random.Random(count), prepared.cwd
    seconds = warm_seconds(prepared, "train", *FLAGS)
    prepared.run("predict", "--competition", "svhn", "--run-name", "straight")
    expected = trained(cwd, "straight")
    answers = sha256(cwd / "submissions" / "svhn" / "straight.csv")
    kills = while_saving = runs = 0
    repeated = []
    while kills < count:
        run, runs = f"run{runs}", runs + 1
        folder = cwd / "runs" / "svhn" / run / "fold0"
        for _ in range(KILLS_PER_RUN):
            before, made_before = saved_step(folder), (cwd / "steps").stat().st_size
            code = prepared.killed(rng.uniform(0, seconds), signal.SIGKILL, "train", *FLAGS, "--run-name", run)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            while_saving += bool(temporaries(folder)) if folder.exists() else 0
            made = (cwd / "steps").stat().st_size - made_before
            repeated.append(before + made - saved_step(folder))
        prepared.run("train", *FLAGS, "--run-name", run)
        assert_same(trained(cwd, run), expected)
        assert temporaries(folder) == []
        prepared.run("predict", "--competition", "svhn", "--run-name", run)
        assert sha256(cwd / "submissions" / "svhn" / f"{run}.csv") == answers
    assert max(repeated) <= 1
    assert min(repeated) >= 0
    figure(
        f"SIGKILL while training: {kills} kills in {runs} runs, {while_saving} while writing a file: 0 lost, "
        f"0 corrupt; weights, EMA, optimizer, out-of-fold and submission identical {runs} of {runs}; "
        f"steps repeated: {sum(repeated)}, at most {max(repeated)} per kill"
    )


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_second_command_on_the_same_run_is_an_error(
    prepared: Commands, podium: Podium, figure: Callable[[str], None], count: int
) -> None:
    cwd = prepared.cwd
    prepared.run("train", *FLAGS, "--run-name", "straight")
    expected = trained(cwd, "straight")
    for attempt in range(count):
        flags = ("train", *FLAGS, "--run-name", f"run{attempt}")
        first = prepared.start_and_freeze(1 + attempt % 5, *flags)
        code, _, err = podium(*flags)
        assert code == 2, err
        assert f"process {first} is training fold0" in err
        os.kill(first, signal.SIGKILL)
        assert prepared.ended() == -signal.SIGKILL
        prepared.run(*flags)
        assert_same(trained(cwd, f"run{attempt}"), expected)
    figure(f"a second command on the same run: refused {count} of {count}; allowed again after kill -9 of the first")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_a_training_stopped_by_a_signal_resumes_identically(
    prepared: Commands, figure: Callable[[str], None], count: int, number: signal.Signals
) -> None:
    rng, cwd, longest = random.Random(count), prepared.cwd, 0.0
    seconds = warm_seconds(prepared, "train", *FLAGS)
    expected, stops = trained(cwd, "straight"), 0
    for attempt in itertools.count():
        if stops == count:
            break
        run = f"run{attempt}"
        code, waited = prepared.stopped(rng.uniform(0, seconds), number, "train", *FLAGS, "--run-name", run)
        if code == 0:  # it ended before the signal
            assert attempt < 20 * (stops + 1), "it never stops"
            continue
        assert code in (128 + number, -number), (cwd / "err").read_text()  # the latter before src.core.cli has started
        longest = max(longest, waited)
        stops += 1
        prepared.run("train", *FLAGS, "--run-name", run)
        assert_same(trained(cwd, run), expected)
    assert longest < 5
    figure(f"{number.name} while training: {stops} of {stops} resume identically; ended within {longest:.2f} s")


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_prepare_killed_at_random_moments_gives_the_same_result(
    svhn: MakeSvhn, commands: Commands, figure: Callable[[str], None], count: int
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    rng, cwd = random.Random(count), commands.cwd
    flags = ("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    commands.run(*flags, "--runs-dir", "straight")
    seconds = commands.run(*flags, "--runs-dir", "again")
    expected = prepared_files(cwd / "straight")
    kills = in_writing = runs = 0
    while kills < count:
        runs_dir, runs = f"runs/{runs}", runs + 1
        for _ in range(KILLS_PER_RUN):
            code = commands.killed(rng.uniform(0, seconds), signal.SIGKILL, *flags, "--runs-dir", runs_dir)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            in_writing += bool(temporaries(cwd))
        commands.run(*flags, "--runs-dir", runs_dir)
        assert prepared_files(cwd / runs_dir) == expected
    figure(f"SIGKILL while preparing: {kills} kills, {in_writing} while writing a file: 0 wrong results in {runs} runs")


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_predict_killed_at_random_moments_gives_the_same_submission(
    prepared: Commands, figure: Callable[[str], None], count: int
) -> None:
    rng, cwd = random.Random(count), prepared.cwd
    prepared.run("train", *FLAGS)
    flags = ("predict", "--competition", "svhn", "--run-name", "baseline")
    prepared.run(*flags)
    (prepared.cwd / "runs/svhn/baseline/fold0/test.npz").unlink()
    seconds = prepared.run(*flags)
    submission = cwd / "submissions" / "svhn" / "baseline.csv"
    answers = cwd / "runs" / "svhn" / "baseline" / "fold0" / "test.npz"
    expected, kills, cut = sha256(submission), 0, 0
    while kills < count:
        for path in (submission, answers):
            path.unlink(missing_ok=True)
        for _ in range(KILLS_PER_RUN):
            code = prepared.killed(rng.uniform(0, seconds), signal.SIGKILL, *flags)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (cwd / "err").read_text()
            kills += 1
            cut += not submission.exists()
            assert not submission.exists() or sha256(submission) == expected
        prepared.run(*flags)
        assert sha256(submission) == expected
    figure(f"SIGKILL while predicting: {kills} kills, {cut} before the submission existed: 0 wrong submissions")
