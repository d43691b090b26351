"""What goes wrong in one rank is agreed on, named, and ends in time; killed ranks resume to the same weights."""

import os
import random
import re
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.ranks import FLAGS, difference, start, train, weights
from tests.training.test_ranks import prepared  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rank", ["0", "1"])
def test_memory_that_runs_out_in_one_rank_halves_the_micro_batch_of_all(prepared: Path, rank: str) -> None:  # noqa: F811
    train(prepared, 2, *FLAGS, "--run-name", "straight")
    out = train(prepared, 2, *FLAGS, "--run-name", "halved", fault=f"memory {rank}")
    assert "SHA-256" in out
    assert difference(prepared, "straight", "halved") < 1e-5
    log = pd.read_csv(prepared / "runs/svhn/halved/fold0/log.csv")
    assert log["micro_batch"].tolist() == [4] * 13


def test_a_step_that_is_not_finite_in_one_rank_is_skipped_by_all(prepared: Path) -> None:  # noqa: F811
    train(prepared, 2, *FLAGS, "--run-name", "run", fault="nan 1")
    log = pd.read_csv(prepared / "runs/svhn/run/fold0/log.csv")
    assert log["skipped_steps"].tolist() == [2] + [0] * 12
    assert all(value.isfinite().all() for value in weights(prepared, "run").values())


def test_memory_with_synchronised_batch_norm_is_one_line(prepared: Path) -> None:  # noqa: F811
    process = start(prepared, 2, *FLAGS, "--sync-batch-norm", fault="memory 1")
    _, err = process.communicate(timeout=120)
    assert "error: rank 1: out of memory; with --sync-batch-norm give a larger --accumulate yourself" in err
    assert process.returncode


def test_a_rank_that_is_killed_is_named_and_the_others_end_with_a_line(prepared: Path) -> None:  # noqa: F811
    process = start(prepared, 2, *FLAGS, fault="kill 1")
    _, err = process.communicate(timeout=120)
    assert process.returncode
    assert "error: rank 0: another rank ended or did not answer within --rank-timeout" in err
    assert re.search(r"Root Cause[\s\S]*rank +: 1 [\s\S]*Signal 9", err), err[-3000:]


def test_nothing_waits_for_ever_for_a_rank_that_does_not_answer(prepared: Path) -> None:  # noqa: F811
    started = time.monotonic()
    launch = ("--standalone", "--redirects", "0")
    process = start(prepared, 2, *FLAGS, "--rank-timeout", "0.1", fault="stall 1", launch=launch)
    children = ""
    while "error: rank 0: another rank" not in children and time.monotonic() - started < 120:
        assert process.stderr
        children += process.stderr.readline()
    assert "did not answer within --rank-timeout (Timed out" in children
    stalled = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    for child in stalled:  # torchrun would wait 30 seconds for a process that cannot hear SIGTERM
        os.kill(int(child), 9)
    process.communicate(timeout=120)
    assert process.returncode


def workers(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes that torchrun runs now."""
    return [int(pid) for pid in subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()]  # fmt: skip


def test_ranks_killed_twenty_times_end_with_the_same_weights(prepared: Path) -> None:  # noqa: F811
    flags = (*FLAGS, "--epochs", "200", "--save-every", "0.005")
    train(prepared, 2, *flags, "--run-name", "straight")
    draw, kills = random.Random(0), 0
    launch = ("--standalone", "--max-restarts", "100", "--monitor-interval", "0.1")
    process = start(prepared, 2, *flags, "--run-name", "killed", launch=launch)
    log = prepared / "runs/svhn/killed/fold0/last.pt"
    while process.poll() is None and kills < 20:
        before = log.stat().st_mtime if log.exists() else 0.0
        while process.poll() is None and (not log.exists() or log.stat().st_mtime == before):
            time.sleep(0.05)  # each attempt saves something: 20 kills are not 20 times the same start
        time.sleep(draw.uniform(0, 0.5))
        alive = workers(process)
        if process.poll() is None and alive:
            os.kill(draw.choice(alive), 9)
            kills += 1
            time.sleep(1)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    print(f"ranks killed {kills} times in one run: the same weights as without")
    assert kills == 20
    assert out.count("resumes after epoch") >= 10
    straight, killed = weights(prepared, "straight"), weights(prepared, "killed")
    assert all(torch.equal(straight[name], killed[name]) for name in straight)


def test_a_machine_that_is_lost_leaves_a_training_on_the_others(prepared: Path) -> None:  # noqa: F811
    """Two torchruns as two machines of --nnodes 1:2; one is killed, the other resumes alone and says so."""
    flags = (*FLAGS, "--epochs", "120", "--save-every", "0.01", "--run-name", "run")
    launch = ("--nnodes", "1:2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:29477", "--max-restarts", "3",
              "--rdzv-conf", "last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3")  # fmt: skip
    machines = [start(prepared, 1, *flags, launch=launch) for _ in range(2)]
    state = prepared / "runs/svhn/run/fold0/last.pt"
    while not state.exists():
        assert all(machine.poll() is None for machine in machines)
        time.sleep(0.02)
    # The first to start serves the rendezvous, as --rdzv-endpoint names it: the other one is lost.
    lost = machines[1]
    for pid in (*workers(lost), lost.pid):
        os.kill(pid, 9)
    out, err = machines[0].communicate(timeout=240)
    lost.communicate()
    assert machines[0].returncode == 0, err[-3000:]
    assert "note: 2 ranks trained until here, 1 from now on" in out
