"""Progress of what takes long: a bar on a terminal or in a notebook, elsewhere (a log, CI, nohup) a line now and then.

The time left is that of the whole command, as far as it is known what follows.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_DRAWS = 0.5  # of the bar
DEFAULT_SIZE = (80, 24)  # columns and lines of a terminal that does not report its size
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit}{postfix}"
COUNT = "{desc}: {n_fmt}{unit}{postfix}"  # if the total is not known


def _terminal_size() -> tuple[int | None, int | None]:
    """Return columns and lines for the bar: none if tqdm can ask the terminal, which in some containers reports 0.

    tqdm takes a reported 0 at its word and draws nothing.
    """
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return DEFAULT_SIZE
    return None if size.columns > 0 else DEFAULT_SIZE[0], None if size.lines > 0 else DEFAULT_SIZE[1]


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _can_redraw() -> bool:
    """Return whether stderr is a terminal that a person looks at; CI systems record what some of theirs show."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def minutes(seconds: float) -> str:
    """Return a duration as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    total = round(seconds / 60)
    return f"{total} min" if total < 100 else f"{total // 60} h {total % 60:02} min"


class Progress:
    """Counts up to `total`. A bar, which is gone when done, or lines, `SECONDS_BETWEEN_LINES` apart.

    If the total is unknown, or turns out to be too small, neither a percentage nor the time left is shown. Nothing is
    shown without a name, nor in a process that is `silent`. A `listener` is called at every count.
    """

    silent: ClassVar[bool] = False
    listener: ClassVar[Callable[["Progress"], None] | None] = None
    later: ClassVar[Callable[[float], float]] = lambda stage: 0.0  # see followed_by

    def __init__(self, name: str, total: int | None, unit: str, initial: int = 0) -> None:
        name = "" if self.silent else name
        self.name, self.total, self.unit, self.done = name, total, unit, initial
        self.initial, self.started = initial, time.monotonic()
        self.last_line, self.text = self.started, ""
        self.bar: tqdm[Any] | None = None
        options: dict[str, Any] = {"total": total, "initial": initial, "desc": name, "unit": f" {unit}", "leave": False}
        if name and in_notebook():
            self.bar = tqdm(**options, bar_format=self._format)
        elif name and _can_redraw():
            columns, lines = _terminal_size()
            self.bar = tqdm(
                **options, bar_format=self._format, mininterval=SECONDS_BETWEEN_DRAWS, ncols=columns, nrows=lines,
                dynamic_ncols=columns is lines is None,
            )  # fmt: skip

    @property
    def _format(self) -> str:
        return COUNT if self.total is None else BAR

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the whole command needs from now on; None before anything was counted, or without a total."""
        made = self.done - self.initial
        if made <= 0 or self.total is None:
            return None
        each = (time.monotonic() - self.started) / made
        return (self.total - self.done) * each + Progress.later(self.total * each)

    def update(self, count: int = 1, text: str | None = None) -> None:
        """Count on; `text` is shown behind the count until another one is given."""
        self.done += count
        self.text = self.text if text is None else text
        if self.total is not None and self.done > self.total:
            self.total = None
            if self.bar is not None:
                self.bar.total, self.bar.bar_format = None, COUNT
        if Progress.listener is not None:
            Progress.listener(self)
        if self.bar is not None:
            self.bar.set_postfix_str(self._suffix(), refresh=False)
            self.bar.update(count)
            return
        now = time.monotonic()
        if self.name and now - self.last_line >= SECONDS_BETWEEN_LINES and self.done != self.total:
            self.last_line = now
            of = "" if self.total is None else f" of {self.total:,}"
            self.say(f"{self.name}: {self.done:,}{of} {self.unit}, {self._suffix()}".removesuffix(", "))

    def _suffix(self) -> str:
        left = self.seconds_left
        return ", ".join(filter(None, ["" if left is None else f"{minutes(left)} left", self.text]))

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


@contextmanager
def silenced() -> Iterator[None]:
    """Show nothing inside: neither bars nor lines."""
    before = Progress.silent
    Progress.silent = True
    try:
        yield
    finally:
        Progress.silent = before


@contextmanager
def followed_by(later: Callable[[float], float]) -> Iterator[None]:
    """Tell what follows the stage that is shown inside: from its seconds to those of all that this command does after
    it."""
    before = Progress.later
    Progress.later = later
    try:
        yield
    finally:
        Progress.later = before
