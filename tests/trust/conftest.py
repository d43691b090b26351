"""Shared by the trust tests: real processes to kill, and a list of measured figures to print."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES: list[str] = []


@pytest.fixture
def figure() -> Callable[[str], None]:
    """Return a function that keeps a line to print at the end; benchmarks/RESULTS.md quotes these figures."""
    return FIGURES.append


def serving() -> Iterator["subprocess.Popen[str]"]:
    """Yield a running tests/trust/server.py."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.trust.server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    yield started
    started.communicate(timeout=20)


@pytest.fixture(scope="session")
def server() -> Iterator["subprocess.Popen[str]"]:
    """Yield a running tests/trust/server.py."""
    yield from serving()


@pytest.fixture(scope="session")
def second_server() -> Iterator["subprocess.Popen[str]"]:
    """Yield another one, for two commands at once."""
    yield from serving()


class Commands:
    """Starts `python -m src.<command>` in a folder, one at a time."""

    def __init__(self, cwd: Path, server: "subprocess.Popen[str]", tag: str = "") -> None:
        self.cwd, self.server, self.tag = cwd, server, tag
        self.slow = False  # whether renames and deletions take longer

    @property
    def out(self) -> str:
        """What the last command printed."""
        return (self.cwd / f"out{self.tag}").read_text()

    @property
    def err(self) -> str:
        """What the last command printed to stderr."""
        return (self.cwd / f"err{self.tag}").read_text()

    @property
    def _stdout(self) -> IO[str]:
        assert self.server.stdout is not None
        return self.server.stdout

    def _line(self) -> int:
        return int(self._stdout.readline())

    def start(self, *argv: object) -> int:
        """Start a command; return the process id."""
        assert self.server.stdin is not None
        job = {"argv": [str(part) for part in argv], "cwd": str(self.cwd), "tag": self.tag, "slow": self.slow}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return self._line()

    def ended(self) -> int:
        """Wait for the process; return its exit code, or the negative number of the signal that killed it."""
        return self._line()

    def run(self, *argv: object) -> float:
        """Run to the end; return the seconds it took. Fails if the command does."""
        started = time.perf_counter()
        self.start(*argv)
        assert self.ended() == 0, self.err
        return time.perf_counter() - started

    def stopped(self, after: float, number: int, *argv: object) -> tuple[int, float]:
        """Start, send signal `number` after `after` seconds; return the exit code and the seconds until it exited."""
        process = self.start(*argv)
        ended = bool(select.select([self._stdout], [], [], after)[0])
        started = time.perf_counter()
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return self.ended(), time.perf_counter() - started

    def killed(self, after: float, number: int, *argv: object) -> int:
        """Start, send signal `number` after `after` seconds, return the exit code."""
        return self.stopped(after, number, *argv)[0]

    def _after_steps(self, count: int, number: int, *argv: object) -> int:
        """Start, send signal `number` after `count` training steps, return the process id."""
        steps = self.cwd / "steps"
        before = steps.stat().st_size if steps.exists() else 0
        process = self.start(*argv)
        while not steps.exists() or steps.stat().st_size < before + count:
            assert not select.select([self._stdout], [], [], 0.001)[0], self.err
        os.kill(process, number)
        return process

    def stopped_after_steps(self, count: int, *argv: object) -> int:
        """Start, send SIGTERM after `count` training steps, return the exit code."""
        self._after_steps(count, signal.SIGTERM, *argv)
        return self.ended()

    def start_and_freeze(self, steps: int, *argv: object) -> int:
        """Start, suspend the process (SIGSTOP) after `steps` training steps, return its id; it stays until killed."""
        return self._after_steps(steps, signal.SIGSTOP, *argv)


@pytest.fixture
def commands(tmp_path: Path, server: "subprocess.Popen[str]") -> Commands:
    """Return a runner of commands in tmp_path."""
    return Commands(tmp_path, server)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for line in FIGURES:
        terminalreporter.write_line(line)
