"""Signals (Ctrl-C, SIGTERM, a lost terminal): finish the current step, save and exit; outside a step, exit at once."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TOGETHER = 1.0  # seconds; torchrun, Slurm and terminals signal a process more than once for one request
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """Raised when a signal ends the command; `code` is its exit code, 128 plus the signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.code = 128 + number


class _Stop:
    """Whether this process was asked to stop; one instance per process."""

    def __init__(self) -> None:
        self.asked = 0  # signal number, 0 if none
        self.deferred = False
        self._since = -math.inf  # when it was asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._since < TOGETHER:
            return
        if self.deferred and not self.asked:
            self.ask(number)
        else:  # a second request is not deferred
            self._since = time.monotonic()
            raise Stopped(number)

    def ask(self, number: int) -> None:
        """Ask this process to stop, as a signal would; does nothing if `number` is 0 or it was asked already."""
        if number and not self.asked:
            self.asked, self._since = number, time.monotonic()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Install the signal handlers; does nothing outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.asked, self._since = 0, -math.inf
        # Signals that the caller ignores (nohup, background jobs) stay ignored.
        numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        except RuntimeError as error:  # Python wraps what a signal raises while a class is being made
            if isinstance(error.__cause__, Stopped):
                raise error.__cause__ from None
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Defer a signal until `check`, or until the end of the block."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False
        self.check()

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.asked:
            raise Stopped(self.asked)


stop = _Stop()


def end_with_parent(parent: int) -> None:
    """Make this process end within seconds of its parent: after a SIGKILL it would go on, or wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
