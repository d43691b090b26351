"""A sweep that is stopped, or can print nothing any more, leaves no training behind."""

import subprocess
import time
from pathlib import Path

import pytest

from src.config import SweepConfig
from src.core.signals import Stopped
from src.sweeping.board import Board
from src.sweeping.engines import Shell, run_locally
from src.sweeping.plan import Member, Task


def seconds_of_sleep(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make a task sleep instead of training."""
    monkeypatch.setattr(Task, "command", lambda self, restart: ["-c", f"import time; time.sleep({seconds})"])


def tasks_of(count: int) -> list[Task]:
    return [
        Task(member=Member(name=f"m{seed}", settings={}, seed=seed, flags=(), epochs=1), fold=0)
        for seed in range(count)
    ]


class Processes:
    """The processes that a sweep starts, and how many of them ran at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[subprocess.Popen[str]] = []
        self.at_once = 0
        start = Shell.start

        def counted(shell: Shell, command: list[str], gpu: str | None) -> "subprocess.Popen[str]":
            self.all.append(start(shell, command, gpu))
            self.at_once = max(self.at_once, sum(process.poll() is None for process in self.all))
            return self.all[-1]

        monkeypatch.setattr(Shell, "start", counted)


def test_a_stopped_sweep_ends_all_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(Board):
        def tick(self) -> None:
            raise Stopped(15)

    seconds_of_sleep(monkeypatch, 60)
    processes, tasks = Processes(monkeypatch), tasks_of(12)
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_locally(tasks, SweepConfig(tasks=12), Stopping(tasks, tmp_path))
    assert all(process.poll() is not None for process in processes.all)
    assert time.monotonic() - began < 30


def test_a_sweep_that_can_print_nothing_starts_no_further_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(Board):
        def started(self, task: Task) -> None:
            raise BrokenPipeError

    seconds_of_sleep(monkeypatch, 60)
    processes, tasks = Processes(monkeypatch), tasks_of(8)
    with pytest.raises(BrokenPipeError):
        run_locally(tasks, SweepConfig(tasks=2), Mute(tasks, tmp_path))
    assert all(process.poll() is not None for process in processes.all)
    assert processes.at_once <= 2
    assert len(processes.all) < 8
