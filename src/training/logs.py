"""One stream of scalars: the rows of log.csv, an epoch each, sent to every sink that --log names.

Each sink has its own thread, and is sent all rows of the fold each time: it writes those that it has not got. So
a resumed training continues its curves whatever a kill has lost, and a sink that fails or hangs costs a line only.
"""

import hashlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from src.core.modules import check_extra
from src.runs.run import Run

CLOSE_SECONDS = 60.0  # that a sink may take at the end for what it has not written yet
STOP_SECONDS = 3.0  # the same after Ctrl-C; the next start writes the rest
PACKAGES = {"tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}

Row = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training whose rows are logged."""

    folder: Path  # fold<k>/
    runs_dir: Path
    competition: str
    run: str
    run_id: str
    fold: int
    settings: dict[str, str | int | float | bool]

    @property
    def name(self) -> str:
        return f"{self.run}/fold{self.fold}"

    def id_of(self, rows: Sequence[Row]) -> str:
        """Return a name for this training that a resumed one shares and one after --restart does not.

        The seconds of its first epoch tell them apart.
        """
        facts = (self.competition, self.run, self.run_id, self.fold, sorted(rows[0].items()))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def training_of(run: Run, number: int) -> Training:
    """Return what is said of a fold of a run that has begun."""
    return Training(
        folder=run.paths.fold(number).folder,
        runs_dir=run.prepared.config.runs_dir,
        competition=run.competition.name,
        run=run.name,
        run_id=run.id,
        fold=number,
        settings=run.started_record.flat_settings(),
    )


class Sink(Protocol):
    """What rows are written to; any exception ends it, not the training."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write those rows that are not there yet; `rows` are all of the fold, at least one."""

    def close(self) -> None:
        """Finish; called only after `write`."""


def values_of(row: Row) -> dict[str, float]:
    """Return what is drawn of a row, over its epoch."""
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def times_of(rows: Sequence[Row]) -> list[float]:
    """Return when each row was made, in seconds since 1970, as if the training had never been interrupted."""
    now, after, times = time.time(), 0.0, []
    for row in reversed(rows):
        times.append(now - after)
        after += row["seconds"]
    return times[::-1]


def check_logs(names: Sequence[str]) -> None:
    """Raise InputError if the package of one is missing."""
    for name in names:
        check_extra(f"--log {name}", name, *PACKAGES[name])


class _Worker:
    """Feeds one sink from a thread."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name, self.sink = name, sink
        self.waiting: queue.SimpleQueue[list[Row] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=f"log {name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        begun = False
        try:
            while (rows := self.waiting.get()) is not None:
                self.sink.write(rows)
                begun = True
            if begun:
                self.sink.close()
        except (Exception, SystemExit) as error:  # whatever a service raises must not end the training
            text = " ".join(str(error).split())[:200]
            print(f"note: --log {self.name} failed and is skipped ({type(error).__name__}: {text})", flush=True)

    def send(self, rows: list[Row] | None) -> None:
        self.waiting.put(rows)


class Logs:
    """The sinks of one fold."""

    def __init__(self, sinks: dict[str, Sink]) -> None:
        self.workers = [_Worker(name, sink) for name, sink in sinks.items()]

    def write(self, history: Sequence[Row]) -> None:
        """Send all rows of the fold; returns at once."""
        for worker in self.workers if history else ():
            worker.send([dict(row) for row in history])

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for worker in self.workers:
            worker.send(None)
        until = time.monotonic() + (CLOSE_SECONDS if error is None else STOP_SECONDS)
        for worker in self.workers:
            worker.thread.join(max(0.0, until - time.monotonic()))
            if worker.thread.is_alive():
                print(f"note: --log {worker.name} does not answer; training continues without it", flush=True)
