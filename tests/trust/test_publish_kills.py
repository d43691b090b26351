"""SIGKILL while prepare publishes a snapshot, or --restart its folds: the old is there or the new, never both."""

import json
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import run_at, snapshot_at
from tests.trust.conftest import Commands
from tests.world import FLAGS, PREPARE, done, link, run_command


@pytest.fixture
def commands(finished_world: Path, tmp_path: Path, server: "subprocess.Popen[str]") -> Commands:
    """Return commands, with slow renames, in a copy of the finished work."""
    commands = Commands(link(finished_world, tmp_path / "world"), server)
    commands.slow = True
    return commands


def state(world: Path) -> str:
    """Return what evaluate says of the run: its weights and score, or that it refuses."""
    ended = run_command(world, "evaluate")
    if ended.code == 2:
        assert ended.err.count("\n") == 1, ended.err
        return "refused"
    assert ended.code == 0, ended.err
    scores = json.loads((world / "runs/svhn/baseline/evaluation/scores.json").read_text())
    return json.dumps([scores["run_id"], scores["score"], scores["folds"]])


@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_a_restart_killed_at_random_moments_leaves_the_old_or_the_new(
    commands: Commands, finished_world: Path, tmp_path: Path, figure: Callable[[str], None], count: int
) -> None:
    rng, world = random.Random(count), commands.cwd
    flags = ("train", *FLAGS, "--seed", 4, "--restart")
    old = state(world)
    commands.run(*flags)
    new = state(world)
    expected = [fold.result.weights_sha256 for fold in run_at(world / "runs/svhn/baseline").trained()]
    found, kills, runs = Counter[str](), 0, 0
    seconds = commands.run(*flags[:-3], "--seed", 5, "--restart")  # with a warm page cache
    while kills < count:
        shutil.rmtree(world)
        link(finished_world, world)
        runs += 1
        for _ in range(6):
            # Half of the kills in the last fifth, where the folds are moved.
            moment = rng.choice([rng.uniform(0, seconds), rng.uniform(0.8 * seconds, seconds)])
            if commands.killed(moment, signal.SIGKILL, *flags) == 0:
                seconds *= 0.95  # the machine is quicker now
                break
            kills += 1
            seen = state(world)
            assert seen in (old, new, "refused")
            found["old" if seen == old else "new" if seen == new else seen] += 1
            if seen == new:
                break
        commands.run(*flags) if state(world) != new else None
        assert state(world) == new
        assert [fold.result.weights_sha256 for fold in run_at(world / "runs/svhn/baseline").trained()] == expected
        assert not list(world.rglob("*.tmp"))
        assert not (world / "runs/svhn/baseline/restart").exists() or seen == new
    figure(
        f"SIGKILL during --restart: {kills} kills in {runs} runs; found afterwards: {found['old']} the old run, "
        f"{found['new']} the new, {found['refused']} refused in one line until the same command was run again; 0 mixed"
    )


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_prepare_killed_at_random_moments_leaves_a_whole_snapshot_current(
    commands: Commands, figure: Callable[[str], None], count: int
) -> None:
    rng, world = random.Random(count), commands.cwd
    root = world / "runs" / "svhn"
    ids, kills, found = {}, 0, Counter[str]()
    for folds in (2, 3):
        done(world, "prepare", *PREPARE[:2], "--num-folds", folds)
        ids[folds] = snapshot_at(root).name
    flags = {folds: ("prepare", *PREPARE[:2], "--num-folds", folds, "--num-processes", 1) for folds in ids}
    seconds = commands.run(*flags[2])
    while kills < count:
        folds = 2 + kills % 2
        shutil.rmtree(root / "prepared" / ids[folds], ignore_errors=True)  # to be published again
        run_command(world, "prepare", *flags[5 - folds][1:])
        code = commands.killed(rng.uniform(0.3 * seconds, 1.5 * seconds), signal.SIGKILL, *flags[folds])
        kills += code != 0
        current = snapshot_at(root)
        assert current.name in ids.values()
        found["new" if current.name == ids[folds] else "old"] += code != 0
        for name in ("labels.csv", "folds.csv", "test.csv", "snapshot.json"):
            assert (current / name).exists()
        assert run_command(world, "train", *FLAGS, "--run-name", f"new{kills}", "--epochs", 1).code == 0
        shutil.rmtree(root / f"new{kills}")
    done(world, *flags[2])
    assert not list(world.rglob("*.tmp"))
    figure(f"SIGKILL while publishing a snapshot: {kills} kills; current afterwards: {dict(found)}; 0 half written")
