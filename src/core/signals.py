"""Being asked to stop, by Ctrl-C, SIGTERM or a lost terminal: after the step at hand, or at once where none is made."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """Raised where a signal ends the command; `code` is its exit code, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.code = 128 + number


class _Stop:
    """Whether this process was asked to stop; one object serves it."""

    def __init__(self) -> None:
        self.asked = 0  # the signal's number
        self.deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.deferred and not self.asked:
            self.asked = number
        else:  # a second signal does not wait
            raise Stopped(number)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals here; does nothing outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.asked = 0
        # What the caller ignores (nohup, a job in the background) stays ignored.
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Let a signal wait for `check`, or for the end of what is inside."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False
        self.check()

    def check(self) -> None:
        """Raise Stopped where a signal has come."""
        if self.asked:
            raise Stopped(self.asked)


stop = _Stop()
