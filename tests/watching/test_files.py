"""What a run's files say: any of them may be missing, half written, damaged, or from before an interruption."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from src.runs.log import read_rows
from src.runs.paths import run_names
from src.watching.files import state_of

NOW = 1_000_000.0
LOG = "epoch,lr,loss,score,train_seconds,seconds\n1,0.1,2.5,0.25,9,10\n2,0.05,nan,0.5,9,10\n"
DEAD = 2**22 + 1  # above the greatest process id


def write_fold(folder: Path, result: dict[str, float] | None = None, log: str = LOG, **status: Any) -> Path:
    """Write the files of a fold of 4 epochs as a training of folds 0 and 1 does."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"run": {"train": {"epochs": 4, "lr": 0.1, "backbone": "mine"}}, "fold": 0, "result": result}
    (folder / "fold.json").write_text(json.dumps(record))
    (folder / "log.csv").write_text(log)
    if status:
        found = {"folds": [0, 1], "epochs": 4, "stage": "fold 0 epoch 3/4", "done": 5, "total": 10, "unit": "steps"}
        found |= {"seconds_left": 60.0, "updated": NOW - 2, "host": platform.node(), "pid": os.getpid(), "lines": ["a"]}
        (folder / "status.json").write_text(json.dumps(found | status))
    return folder


def test_a_running_fold_and_the_one_that_waits(tmp_path: Path) -> None:
    write_fold(tmp_path / "fold0", state="running")
    found = state_of(tmp_path, NOW)
    assert (found["state"], found["seconds_left"], found["lines"]) == ("running", 58.0, ["a"])
    assert found["share"] == pytest.approx(2.5 / 8)
    assert [(fold["number"], fold["state"], fold["epochs"]) for fold in found["folds"]] == [
        (0, "running", 4),
        (1, "waiting", 4),
    ]
    assert [row["loss"] for row in found["folds"][0]["rows"]] == [2.5, None]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"state": "running", "pid": DEAD}, "running"),  # it may be about to write again, elsewhere
        ({"state": "running", "pid": DEAD, "updated": NOW - 60}, "silent"),
        ({"state": "running", "updated": NOW - 3600}, "running"),  # a long step; its process lives
        ({"state": "running", "updated": NOW - 3 * 3600}, "silent"),  # a process of its id lives
        ({"state": "running", "pid": 0, "updated": NOW - 60}, "silent"),
        ({"state": "running", "host": "elsewhere", "updated": NOW - 60}, "running"),
        ({"state": "running", "host": "elsewhere", "updated": NOW - 600}, "silent"),
        ({"state": "stopped"}, "stopped"),
        ({"state": "failed"}, "failed"),
        ({}, "not running"),
    ],
)
def test_how_a_training_ended_is_told(tmp_path: Path, status: dict[str, Any], state: str) -> None:
    write_fold(tmp_path / "fold0", **status)
    assert state_of(tmp_path, NOW)["state"] == state


def test_a_finished_run_is_done_until_a_fold_is_trained_again(tmp_path: Path) -> None:
    for number in (0, 1):
        write_fold(tmp_path / f"fold{number}", {"score": 0.4, "score_tta": 0.5}, state="done", updated=NOW - 9 + number)
    found = state_of(tmp_path, NOW)
    assert (found["state"], found["share"], found["seconds_left"]) == ("done", 1.0, None)
    assert [fold["score"] for fold in found["folds"]] == [0.5, 0.5]
    write_fold(tmp_path / "restart" / "fold1", log="", state="running", updated=NOW, folds=[1])
    found = state_of(tmp_path, NOW)
    assert [(fold["restarted"], fold["state"]) for fold in found["folds"]] == [(False, "done"), (True, "running")]
    assert found["state"] == "running"
    assert found["share"] == pytest.approx((4 + 0.5) / 8)
    write_fold(tmp_path / "restart" / "fold1", log="", state="running", updated=NOW, folds=[0, 1])
    found = state_of(tmp_path, NOW)
    assert [fold["state"] for fold in found["folds"]] == ["waiting", "running"]
    assert found["share"] == pytest.approx(0.5 / 8)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"run": 3, "result": [], "lines": 1, "folds": "x"}', "\x00"])
def test_damaged_files_say_nothing_and_stop_nothing(tmp_path: Path, text: str) -> None:
    folder = write_fold(tmp_path / "fold0", state="running")
    (tmp_path / "fold1" / "log.csv").mkdir(parents=True)
    (tmp_path / "foldx").mkdir()
    for name in ("fold.json", "status.json", "log.csv"):
        (folder / name).write_text(text)
        assert json.loads(json.dumps(state_of(tmp_path, NOW)))["folds"]
        (folder / name).unlink()
        assert state_of(tmp_path, NOW)["folds"][0]["number"] == 0
    assert state_of(tmp_path / "gone", NOW)["folds"] == []


@pytest.mark.parametrize(
    "value",
    ["x", None, [], {}, [[]], ["x", -1], True, -3, 2.5, 1e300, 10**400, float("nan")],
    ids=lambda value: repr(value)[:12],
)
def test_odd_values_in_files_say_nothing_and_stop_nothing(tmp_path: Path, value: Any) -> None:
    folder = write_fold(tmp_path / "fold0", state="running")
    good = json.loads((folder / "status.json").read_text())
    for name in good:
        (folder / "status.json").write_text(json.dumps({**good, name: value}))
        found = state_of(tmp_path, NOW)
        json.dumps(found, allow_nan=False)
        assert 0 <= found["share"] <= 1
        assert found["folds"][0]["epochs"] == 4
    (folder / "status.json").write_text(json.dumps({"state": "running", "updated": value}))
    assert state_of(tmp_path, NOW)["state"] == "silent"
    (folder / "fold.json").write_text(json.dumps({"run": {"train": {"epochs": value}}, "result": value}))
    assert state_of(tmp_path, NOW)["folds"][0]["epochs"] in (1, 2)  # True is 1; else those of the log


def test_every_beginning_of_a_log_gives_its_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for length in range(len(LOG) + 1):
        path.write_text(LOG[:length])
        rows = read_rows(path)
        assert len(rows) <= LOG[:length].count("\n") + 1
        assert [row["epoch"] for row in rows] == [1, 2][: len(rows)]
    assert len(rows) == 2
    path.write_text(LOG + "2,0.05,1,0.5,9,10\n")  # an epoch twice is no row
    assert len(read_rows(path)) == 2


def test_runs_are_known_by_their_files(tmp_path: Path) -> None:
    write_fold(tmp_path / "a" / "fold0")
    (tmp_path / "cache").mkdir()
    assert run_names(tmp_path, staged=True) == ["a"]
