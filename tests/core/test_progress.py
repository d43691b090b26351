"""Progress: a bar on a terminal, lines elsewhere, nothing without a name."""

import io
import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.core import progress
from src.core.progress import Progress, followed_by, minutes, silenced
from tests.fixtures import MakeSvhn

ROOT = Path(__file__).resolve().parents[2]
PREPARE = """
import runpy, sys
from src.core import progress
progress.SECONDS_BETWEEN_LINES = progress.SECONDS_BETWEEN_DRAWS = 0.0  # every count is shown
sys.argv = ["prepare", "--num-folds", "2", "--num-processes", "1"]
runpy.run_module("src.prepare", run_name="__main__", alter_sys=True)
"""


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


def test_without_a_total_or_beyond_it_only_the_count_is_told(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Progress("unknown", None, "MB") as bar:
        clock[0] += 31
        bar.update(1234, "of one file")
        assert bar.seconds_left is None
    with Progress("too small", 100, "MB") as bar:
        for _ in range(3):
            clock[0] += 31
            bar.update(50)
        assert bar.seconds_left is None
    assert capsys.readouterr().out.splitlines() == [
        "unknown: 1,234 MB, of one file",
        "too small: 50 of 100 MB, 31 s left",
        "too small: 150 MB",
    ]


def test_a_bar_without_a_total_or_beyond_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DRAWS", 0.0)
    with Progress("unknown", None, "MB") as unknown:
        unknown.update(12)
    with Progress("too small", 10, "MB") as small:
        small.update(5)
        small.update(25)
    frames = [frame.rstrip() for frame in terminal.getvalue().split("\r")]
    assert "unknown: 12 MB" in frames
    assert any(frame.startswith("too small:  50%|") for frame in frames)
    assert "too small: 30 MB" in frames


def test_what_is_silenced_shows_nothing(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with silenced(), Progress("trial", 10, "steps") as bar:
        clock[0] += 31
        bar.update(5)
    assert capsys.readouterr() == ("", "")
    assert not Progress.silent


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


def start_prepare(cwd: Path, stream: int) -> "subprocess.Popen[bytes]":
    """Start a real command that writes all it has to say to an open file or terminal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
    )


def written_to(terminal: int) -> str:
    """Return what a terminal is sent until nobody has its other end open."""
    parts = []
    with suppress(OSError):  # which is how Linux says so
        while data := os.read(terminal, 1 << 16):
            parts.append(data)
    return b"".join(parts).decode().replace("\r\n", "\n")


def left_on_screen(text: str) -> list[str]:
    """Return the lines that a terminal shows in the end: a carriage return begins to overwrite one."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        lines.append(seen.rstrip())
    return lines


def test_a_command_on_a_real_terminal_draws_bars_that_fit_and_are_gone_at_the_end(
    svhn: MakeSvhn, tmp_path: Path
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 72))
    with start_prepare(tmp_path, its) as command:
        os.close(its)
        text = written_to(ours)
    os.close(ours)
    assert command.returncode == 0, text
    bars = [frame.rstrip() for frame in re.split("[\r\n]", text) if frame.startswith("searching near-duplicates")]
    shown = [
        re.fullmatch(r"searching near-duplicates: +(\d+)%\|.*\| (\d+)/24 passes, \d+ (?:s|min) left", bar)
        for bar in bars
    ]
    assert {int(bar[2]) for bar in shown if bar} == set(range(1, 25))
    assert all(int(bar[1]) == round(100 * int(bar[2]) / 24) for bar in shown if bar)
    assert max(map(len, bars)) <= 72
    left = left_on_screen(text)
    assert not any("%|" in line or " left" in line for line in left), left
    assert any(re.fullmatch(r"\d+ usable labelled images; held out by fold: .*", line) for line in left), left


def test_a_command_that_writes_to_a_file_as_in_ci_and_nohup_prints_lines(svhn: MakeSvhn, tmp_path: Path) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    with open(tmp_path / "nohup.out", "wb") as stream, start_prepare(tmp_path, stream.fileno()) as command:
        command.wait()
    text = (tmp_path / "nohup.out").read_bytes().decode()
    assert command.returncode == 0, text
    assert "\r" not in text
    assert "%|" not in text
    assert "\x1b" not in text
    passes = re.findall(r"^searching near-duplicates: (\d+) of 24 passes, \d+ (?:s|min) left$", text, re.MULTILINE)
    assert [int(number) for number in passes] == list(range(1, 24))  # of the last one the next line tells
    assert re.search(r"^\d+ usable labelled images; held out by fold: ", text, re.MULTILINE)
