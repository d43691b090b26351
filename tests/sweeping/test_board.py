"""The progress of a sweep: lines where nobody watches, a table on a terminal."""

import os
import sys
from pathlib import Path

import pytest

from src.sweeping import board as module
from src.sweeping.board import Board
from src.sweeping.plan import Member, Task

LOG = "epoch,score,seconds\n1,0.5,60\n2,0.75,120\n"


def tasks(count: int) -> list[Task]:
    member = Member(name="s-s0", settings={}, seed=0, flags=(), epochs=4)
    return [Task(member=member, fold=fold) for fold in range(count)]


def write_log(root: Path, fold: int, text: str = LOG) -> Path:
    path = root / "s-s0" / f"fold{fold}" / "log.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_elsewhere_there_is_a_line_for_each_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tasks(2)
    board = Board([first, second], tmp_path)
    board.started(first)
    board.retried(first, "killed")
    board.started(first)
    board.ended(first, 0, "trained")
    board.started(second)
    board.ended(second, 2, "error: no")
    assert capsys.readouterr().out.splitlines() == [
        "started  s-s0 fold 0",
        "failed, is queued again  s-s0 fold 0: killed",
        "started  s-s0 fold 0",
        "1/2  s-s0 fold 0, started 2 times: trained",
        "started  s-s0 fold 1",
        "2/2  s-s0 fold 1: error: no",
    ]
    assert board.summary() == "1 done, 1 failed of 2 trainings"


def test_the_summary_has_epochs_scores_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_SUMMARIES", 0.0)
    first, second = tasks(2)
    board = Board([first, second], tmp_path)
    board.started(first)
    write_log(tmp_path, 0)
    capsys.readouterr()
    board.tick()
    # 2 epochs of 90 s are left of the first, 4 of the second.
    assert capsys.readouterr().out.splitlines() == [
        "1 running, 1 queued of 2 trainings; about 9 min left",
        "  s-s0 fold 0                     running  epoch 2/4      score 0.7500  3 min left",
    ]


@pytest.mark.parametrize("text", ["", "epoch,score,seconds\n", "epoch,score,seconds\n1,0.", "\x00"])
def test_a_log_that_is_not_whole_is_read_later(tmp_path: Path, text: str) -> None:
    (task,) = tasks(1)
    board = Board([task], tmp_path)
    write_log(tmp_path, 0, text)
    board.started(task)
    board.states[task.name].read()
    assert board.states[task.name].score is None


def test_a_task_whose_files_change_is_noticed_as_started(tmp_path: Path) -> None:
    first, second = tasks(2)
    old = write_log(tmp_path, 1)
    board = Board([first, second], tmp_path)
    os.utime(old, (0, 0))
    write_log(tmp_path, 0)
    board.notice_starts()
    assert [state.kind for state in board.states.values()] == ["running", "queued"]


def test_with_redo_the_log_of_the_old_training_is_not_shown(tmp_path: Path) -> None:
    (task,) = tasks(1)
    os.utime(write_log(tmp_path, 0), (0, 0))
    board = Board([task], tmp_path, restart=True)
    state = board.states[task.name]
    state.read()
    assert state.epoch == 0
    write_log(tmp_path, 0)
    state.read()
    assert state.epoch == 2


def test_a_terminal_gets_a_table_that_is_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_DRAWINGS", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "8")
    chosen = tasks(9)
    board = Board(chosen, tmp_path)
    board.started(chosen[3])
    board.tick()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 running, 8 queued of 9 trainings"
    assert lines[1].startswith("  s-s0 fold 3 ")
    assert lines[-1] == "  … and 4 more"
    assert max(map(len, lines)) < 60
    board.ended(chosen[3], 0, "trained")
    found = capsys.readouterr()
    assert found.err == f"\x1b[{len(lines)}A\x1b[J"
    assert found.out == "1/9  s-s0 fold 3: trained\n"
