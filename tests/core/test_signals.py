"""A signal lets the current step finish; one request may arrive as several signals."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from src.core import signals
from src.core.signals import Stopped, stop


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def step(*actions: Callable[[], None]) -> None:
    """Do all of this as one step during which signals are deferred."""
    with stop.handled(), stop.deferring():
        for action in actions:
            action()


def test_signals_within_a_second_are_one_request() -> None:
    done: list[str] = []
    # As torchrun passes on what the terminal has sent already.
    with pytest.raises(Stopped) as stopped:
        step(lambda: kill(signal.SIGTERM), lambda: kill(signal.SIGINT), lambda: done.append("step"))
    assert done == ["step"]
    assert stopped.value.code == 128 + signal.SIGTERM


def test_a_second_request_is_not_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TOGETHER", 0.01)
    done: list[str] = []
    with pytest.raises(Stopped):
        step(
            lambda: kill(signal.SIGTERM),
            lambda: time.sleep(0.02),
            lambda: kill(signal.SIGTERM),
            lambda: done.append("step"),
        )
    assert not done


def test_a_rank_that_others_asked_to_stop_ignores_its_own_signal() -> None:
    done: list[str] = []
    with pytest.raises(Stopped):
        step(lambda: stop.ask(signal.SIGTERM), lambda: kill(signal.SIGTERM), lambda: done.append("save"))
    assert done == ["save"]


def test_a_signal_while_a_class_is_being_made_stops_like_any_other() -> None:
    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(Stopped), stop.handled():
        type("Made", (), {"field": Field()})
