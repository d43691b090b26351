"""fold<k>/status.json: what a training does at this moment, for `src.watch`. Nothing is read from it to train."""

import io
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.core.progress import Progress
from src.core.signals import Stopped
from src.core.writing import replacing
from src.runs.paths import FoldPaths

SECONDS_BETWEEN_WRITES = 2.0
NUM_LINES = 40  # last ones of what was printed


@dataclass
class Moment:
    """What status.json holds; times are seconds since 1970."""

    fold: int = 0
    folds: list[int] = field(default_factory=list)  # of this command
    epochs: int = 0
    state: str = "running"  # done, stopped, failed
    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    text: str = ""
    seconds_left: float | None = None  # of the whole command
    started: float = 0.0
    updated: float = 0.0
    host: str = ""
    pid: int = 0
    device: str = ""


class Status:
    """Writes status.json of the fold that it follows, `SECONDS_BETWEEN_WRITES` apart. A failure is noted once."""

    def __init__(self, folds: list[int], epochs: int, device: str) -> None:
        self.moment = Moment(
            folds=folds, epochs=epochs, device=device, started=time.time(), host=platform.node(), pid=os.getpid()
        )
        self.path: Path | None = None
        self.lines: deque[str] = deque(maxlen=NUM_LINES)
        self.written, self.failed = 0.0, False

    def follow(self, folder: Path) -> None:
        """Write the status of this fold from now on, that of the one before for the last time."""
        self._write("done")
        paths = FoldPaths(folder=folder)
        self.path = paths.status
        self.moment.fold, self.moment.seconds_left = paths.number, None
        self.moment.stage, self.moment.done, self.moment.total, self.moment.text = "", 0, 0, ""
        self._write("running")

    def saw(self, progress: Progress) -> None:
        """Take what is shown; a stage without a name, such as scoring, is a sign of life only."""
        now = time.monotonic()
        if now - self.written < SECONDS_BETWEEN_WRITES:
            return
        if progress.name:
            shown: dict[str, Any] = {"stage": progress.name, "done": progress.done, "total": progress.total}
            shown |= {"unit": progress.unit, "text": progress.text, "seconds_left": progress.seconds_left}
            vars(self.moment).update(shown)
        self._write("running")

    def _write(self, state: str) -> None:
        self.written = time.monotonic()
        if self.path is None or self.failed or not self.path.parent.is_dir():
            return
        self.moment.state, self.moment.updated = state, time.time()
        try:
            with replacing(self.path, to_disk=False) as temporary:
                temporary.write_text(json.dumps({**asdict(self.moment), "lines": list(self.lines)}), encoding="utf-8")
        except OSError as error:
            self.failed = True
            print(f"note: {self.path} cannot be written ({error.strerror or error}): src.watch will not see it all")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Follow what is printed and shown inside, and how it ends."""
        before, state = Progress.listener, "failed"
        Progress.listener = self.saw
        try:
            with redirect_stdout(_Lines(sys.stdout, self.lines)):
                yield
            state = "done"
        except Stopped:
            state = "stopped"
            raise
        except BaseException as error:
            self.lines.append(f"error: {error}")
            raise
        finally:
            Progress.listener = before
            self._write(state)


class _Lines(io.TextIOBase):
    """Passes text on to a stream and keeps its last lines."""

    def __init__(self, stream: Any, lines: deque[str]) -> None:
        self.stream, self.lines, self.unfinished = stream, lines, ""

    def write(self, text: str) -> int:
        *whole, self.unfinished = (self.unfinished + text).split("\n")
        self.lines.extend(line for line in whole if line)
        return int(self.stream.write(text))

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return bool(self.stream.isatty())

    def fileno(self) -> int:
        return int(self.stream.fileno())
