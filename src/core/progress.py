"""Progress of what takes long: a bar on a terminal, elsewhere (a log, a notebook, nohup) a line now and then."""

import os
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
DEFAULT_SIZE = (80, 24)  # columns and lines of a terminal that does not report its size


def _terminal_size() -> tuple[int | None, int | None]:
    """Return columns and lines for the bar: none if tqdm can ask the terminal, which in some containers reports 0.

    tqdm takes a reported 0 at its word and draws nothing.
    """
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return DEFAULT_SIZE
    return None if size.columns > 0 else DEFAULT_SIZE[0], None if size.lines > 0 else DEFAULT_SIZE[1]


def minutes(seconds: float) -> str:
    """Return a duration as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    total = round(seconds / 60)
    return f"{total} min" if total < 100 else f"{total // 60} h {total % 60:02} min"


class Progress:
    """Counts up to `total`. On a terminal a bar, which is gone when done; else lines, `SECONDS_BETWEEN_LINES` apart.

    Without a name nothing is shown, nor in a process that is `silent`.
    """

    silent = False

    def __init__(self, name: str, total: int, unit: str, initial: int = 0) -> None:
        name = "" if self.silent else name
        self.name, self.total, self.unit, self.done = name, total, unit, initial
        self.initial, self.started = initial, time.monotonic()
        self.last_line, self.text = self.started, ""
        self.bar: tqdm[Any] | None = None
        if name and sys.stderr.isatty():
            columns, lines = _terminal_size()
            self.bar = tqdm(
                total=total, initial=initial, desc=name, unit=f" {unit}", mininterval=0.5, ncols=columns, nrows=lines,
                dynamic_ncols=columns is lines is None, leave=False,
            )  # fmt: skip

    def update(self, count: int = 1, text: str | None = None) -> None:
        """Count on; `text` is shown behind the count until another one is given."""
        self.done += count
        self.text = self.text if text is None else text
        if self.bar is not None:
            if text is not None:
                self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(count)
            return
        now = time.monotonic()
        if self.name and now - self.last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self.last_line = now
            self.say(f"{self.name}: {self.done:,} of {self.total:,} {self.unit}{self._left(now)}{self._suffix()}")

    def _left(self, now: float) -> str:
        made = self.done - self.initial
        if made <= 0:
            return ""
        return f", {minutes((self.total - self.done) * (now - self.started) / made)} left"

    def _suffix(self) -> str:
        return f", {self.text}" if self.text else ""

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        if self.bar is not None:
            self.bar.clear()
        print(line, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
