"""Progress: a bar on a terminal, lines elsewhere, nothing without a name."""

import io
import os
import sys
from types import SimpleNamespace

import pytest

from src.core import progress
from src.core.progress import Progress, followed_by, minutes


class Terminal(io.StringIO):
    """A terminal that does not report its width, such as `docker run -t` or a serial line."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def on_a_terminal_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests see no CI and no dumb terminal, wherever they run."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose only item is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_comes_every_half_minute(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Progress("fold 0", 100, "steps") as bar:
        for step in range(100):
            clock[0] += 1
            bar.update(1, f"loss {step}")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "fold 0: 30 of 100 steps, 70 s left, loss 29",
        "fold 0: 60 of 100 steps, 40 s left, loss 59",
        "fold 0: 90 of 100 steps, 10 s left, loss 89",
    ]


def test_the_time_left_of_a_resumed_epoch_counts_only_what_was_done_now(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Progress("fold 0", 100, "steps", initial=60) as bar:
        clock[0] += 40
        bar.update(10)
    assert capsys.readouterr().out == "fold 0: 70 of 100 steps, 2 min left\n"


def test_the_time_left_counts_what_follows_the_stage(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with followed_by(lambda stage: 2 * stage), Progress("fold 0", 100, "steps") as bar:
        clock[0] += 40
        bar.update(50, "loss 1")
    with Progress("fold 1", 100, "steps") as bar:
        clock[0] += 40
        bar.update(50)
    assert capsys.readouterr().out.splitlines() == [
        "fold 0: 50 of 100 steps, 3 min left, loss 1",
        "fold 1: 50 of 100 steps, 40 s left",
    ]


def test_a_notebook_shows_a_bar_and_ci_and_dumb_terminals_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Progress("fold 0", 10, "steps").bar is None  # pytest's stderr is no terminal
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with Progress("fold 0", 10, "steps") as bar:
        assert bar.bar is not None
    monkeypatch.delitem(sys.modules, "IPython")
    monkeypatch.setattr(sys, "stderr", Terminal())
    for name, value in (("CI", "true"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert Progress("fold 0", 10, "steps").bar is None


def test_what_is_short_or_has_no_name_prints_nothing(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    for name in ("quick", ""):
        with Progress(name, 3, "images") as bar:
            clock[0] += 9 if name else 1000
            bar.update(3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_of_unknown_width_shows_a_bar_and_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("fold 0", 10, "steps") as bar:
        assert bar.bar is not None
        bar.bar.mininterval = 0
        bar.update(5, "loss 1.5")
        bar.say("fold 0 epoch 1: score 0.5")
    assert "fold 0:  50%|" in terminal.getvalue()
    assert "loss 1.5" in terminal.getvalue()
    assert capsys.readouterr().out == "fold 0 epoch 1: score 0.5\n"


@pytest.mark.parametrize("size", [(0, 0), (100, 0), (0, 30), (100, 30)])
def test_a_terminal_that_reports_a_size_of_zero_shows_a_bar_too(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """tqdm draws nothing on such a terminal if it is left to ask for the size itself."""
    terminal = Terminal()
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.os, "get_terminal_size", lambda *_: os.terminal_size(size))
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: tuple(side - 1 for side in size))
    with Progress("fold 0", 10, "steps") as bar:
        assert bar.bar is not None
        bar.bar.mininterval = 0
        bar.update(5)
    assert "fold 0:  50%|" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (99, "99 s"), (120, "2 min"), (7500, "2 h 05 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert minutes(seconds) == text
