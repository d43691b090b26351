"""Progress of a sweep: a table on a terminal, elsewhere lines. Epochs and scores are read from the runs' own files."""

import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from src.core.progress import DEFAULT_SIZE, minutes
from src.runs.log import read_rows
from src.runs.paths import FoldPaths, RunPaths
from src.sweeping.plan import Task

SECONDS_BETWEEN_SUMMARIES = 300.0
SECONDS_BETWEEN_DRAWINGS = 2.0


@dataclass
class State:
    """What is known of a task."""

    task: Task
    candidates: list[FoldPaths]  # where its fold may lie; the first that exists counts
    restart: bool  # whether files from before the sweep are of another training
    queued_at: float  # time.time()
    kind: str = "queued"  # running, retried (queued again), done, failed
    starts: int = 0
    epoch: int = 0
    score: float | None = None
    seconds: float = 0.0  # of the mean epoch

    @property
    def paths(self) -> FoldPaths:
        return next((paths for paths in self.candidates if paths.folder.is_dir()), self.candidates[0])

    def read(self) -> None:
        """Read epoch, score and seconds from log.csv, as far as it is whole."""
        if self.restart and not self.has_begun():
            return
        rows = read_rows(self.paths.log)
        seconds = [row.get("seconds") or 0.0 for row in rows]
        if rows:
            self.epoch, self.score, self.seconds = len(rows), rows[-1].get("score"), sum(seconds) / len(rows)

    def has_begun(self) -> bool:
        """Return whether its files have changed since it was queued."""
        for file in (self.paths.log, self.paths.record):
            try:
                if file.stat().st_mtime >= self.queued_at:
                    return True
            except OSError:
                continue
        return False

    @property
    def epochs_left(self) -> int:
        return max(0, self.task.member.epochs - self.epoch)

    def line(self) -> str:
        """Return its row of the table."""
        score = "" if self.score is None else f"score {self.score:.4f}"
        again = f"start {self.starts}" if self.starts > 1 else ""
        seconds = self.epochs_left * self.seconds
        left = f"{minutes(seconds)} left" if self.kind == "running" and seconds else ""
        epoch = f"epoch {self.epoch}/{self.task.member.epochs}"
        return f"  {self.task.name:30}  {self.kind:8} {epoch:14} {score:13} {left:14} {again}".rstrip()


class Board:
    """Is told what happens to tasks, and shows it. Methods may be called from any thread."""

    def __init__(self, tasks: list[Task], root: Path, restart: bool = False) -> None:
        """root: runs/<competition>; with `restart`, tasks train in <run>/restart/ until their folds are finished."""
        now = time.time()
        self.states: dict[str, State] = {}
        for task in tasks:
            run = RunPaths(folder=root / task.member.name)
            candidates = [one.fold(task.fold) for one in ([run.restart, run] if restart else [run])]
            self.states[task.name] = State(task, candidates, restart, now)
        self._lock = threading.RLock()
        self._drawn = 0  # lines of the table that are on the terminal
        self._is_terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def started(self, task: Task) -> None:
        """Note that a task was started."""
        with self._lock:
            state = self.states[task.name]
            if state.kind == "running":
                return
            state.kind, state.starts = "running", state.starts + 1
            if not self._is_terminal:
                self.say(f"started  {task.name}")

    def retried(self, task: Task, line: str) -> None:
        """Note that a task failed and is queued again."""
        with self._lock:
            state = self.states[task.name]
            state.kind, state.queued_at = "retried", time.time()
            self.say(f"failed, is queued again  {task.name}: {line}")

    def ended(self, task: Task, code: int, line: str) -> None:
        """Note that a task ended for good."""
        with self._lock:
            state = self.states[task.name]
            state.read()
            state.kind = "failed" if code else "done"
            again = f", started {state.starts} times" if state.starts > 1 else ""
            self.say(f"{self._count('done', 'failed')}/{len(self.states)}  {task.name}{again}: {line}")

    def tick(self) -> None:
        """Redraw the table, or print a summary, if it is time."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < (SECONDS_BETWEEN_DRAWINGS if self._is_terminal else SECONDS_BETWEEN_SUMMARIES):
                return
            self._last = now
            for state in self.states.values():
                if state.kind == "running":
                    state.read()
            if self._is_terminal:
                self._draw()
            else:
                print("\n".join([self.summary(), *self._running()]), flush=True)

    def notice_starts(self) -> None:
        """Take queued tasks as started whose files have changed; for engines that do not tell."""
        for state in self.states.values():
            if state.kind in ("queued", "retried") and state.has_begun():
                self.started(state.task)

    def say(self, line: str) -> None:
        """Print a line above the table."""
        with self._lock:
            self._clear()
            print(line, flush=True)

    def close(self) -> None:
        """Remove the table."""
        with self._lock:
            self._clear()

    def summary(self) -> str:
        """Return the numbers of tasks in each state, and the time left."""
        kinds = ("done", "running", "queued", "retried", "failed")
        counts = [f"{self._count(kind)} {kind}" for kind in kinds if self._count(kind)]
        known = [state.seconds for state in self.states.values() if state.seconds]
        left = ""
        if known and self._count("running"):
            mean = sum(known) / len(known)
            open_ = [state for state in self.states.values() if state.kind not in ("done", "failed")]
            seconds = sum(state.epochs_left * (state.seconds or mean) for state in open_) / self._count("running")
            left = f"; about {minutes(seconds)} left" if seconds else ""
        return f"{', '.join(counts)} of {len(self.states)} trainings{left}"

    def _count(self, *kinds: str) -> int:
        return sum(state.kind in kinds for state in self.states.values())

    def _running(self) -> list[str]:
        return [state.line() for state in self.states.values() if state.kind == "running"]

    def _draw(self) -> None:
        """Draw the summary, then as many rows as the terminal has lines for, running ones first."""
        columns, height = shutil.get_terminal_size(DEFAULT_SIZE)
        order = ("running", "retried", "failed", "queued", "done")
        rows = [state.line() for kind in order for state in self.states.values() if state.kind == kind]
        room = max(1, height - 3)
        more = [f"  … and {len(rows) - room} more"] if len(rows) > room else []
        lines = [self.summary(), *rows[:room], *more]
        self._clear()
        sys.stderr.write("".join(f"{line[: columns - 1]}\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
            self._drawn = 0
