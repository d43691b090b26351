"""Signals (Ctrl-C, SIGTERM, a lost terminal): finish the current step, save and exit; outside a step, exit at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.deferred and not self.asked:
            self.asked = number
        else:  # a second signal is not deferred
            raise Stopped(number)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Install the signal handlers; does nothing outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.asked = 0
        # Signals that the caller ignores (nohup, background jobs) stay ignored.
        numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
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
