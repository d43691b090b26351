"""A search never sees the reported fold, survives a kill, prunes, and prints a command that trains the best."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, Trial

from src.core.signals import Stopped
from src.searching.study import open_study, repair
from tests.fixtures import Finished, MakeSvhn, Podium
from tests.helpers import prepared_at, run_at
from tests.world import refused

ROOT = Path(__file__).resolve().parents[2]
SPACE = ("--space", "lr=1e-4..1e-2:log", "label_smoothing=0,0.05", "backbone=string_cnn", "pretrained=False",
         "epochs=2", "batch-size=4", "image_size=32 48")  # fmt: skip


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    """Return runs/svhn after prepare, with two folds."""
    svhn(num_train=16, num_val=8, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    return tmp_path / "runs" / "svhn"


def trials_of(root: Path, name: str = "search") -> list[FrozenTrial]:
    return open_study(root / "searches" / name / "study.log", True, False, 1).get_trials()


def facts(root: Path, name: str = "search") -> list[tuple[Any, ...]]:
    """Return what must not depend on interruptions."""
    return [(one.number, one.state, one.params, one.values, one.intermediate_values) for one in trials_of(root, name)]


def test_the_reported_fold_takes_no_part_and_the_printed_command_trains_the_best(
    prepared: Path, podium: Podium, tmp_path: Path
) -> None:
    ended = podium("search", *SPACE, "--trials", 2)
    assert ended.code == 0, ended.err
    outer, folder = prepared_at(prepared), prepared / "searches" / "search"
    reported = set(outer.folds["image_path"][outer.folds["fold"] == 0])
    inner = prepared_at(folder / "trials" / "svhn")
    assert reported
    assert set(inner.labels["image_path"]) == set(outer.labels["image_path"]) - reported
    assert set(inner.folds["image_path"]) == set(inner.labels["image_path"])
    first = trials_of(prepared)[0]
    assert first.params == {"lr": 2e-3, "label_smoothing": "0.05"}  # train's defaults
    report = json.loads((folder / "search.json").read_text())["reports"][0]
    assert f"gain {report['difference']:+.4f}, 95% interval" in ended.out
    assert report["num_images"] == len(reported)
    command = ended.out.strip().splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "src.train"]
    again: Finished = podium("train", *command[3:], "--fold", 0)
    assert "fold 0: already trained" in again.out, again.err
    assert run_at(prepared / report["best_run"]).trained()
    assert not list((folder / "trials" / "svhn").glob("trial-*"))  # told, so deleted
    assert podium("search", *SPACE, "--trials", 2, "--seed", 1).err.count("\n") == 1
    assert json.loads(next((folder / "trials/svhn/prepared").glob("*/snapshot.json")).read_text())["flags"].startswith(
        " --num-folds 2 (of "
    )
    assert f"{report['difference']:+.4f}" in (folder / "search.html").read_text()
    assert re.search(r"^trial 0: .*; 1 of 2 done, about .* left$", ended.out, re.MULTILINE)
    shutil.rmtree(prepared / "searches")
    refused(podium("search", *SPACE, "--trials", 2), "svhn/search-default: belongs to a search that is gone")


@pytest.mark.slow
def test_a_search_that_is_stopped_ends_as_one_that_was_not(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*SPACE, "--trials", 2, "--no-report")
    assert podium("search", *flags, "--run-name", "whole").code == 0
    report, calls = Trial.report, iter(range(100))

    def stopping(trial: Trial, value: float, step: int) -> None:
        report(trial, value, step)
        if next(calls) == 2:  # in the second trial, after its first epoch
            raise Stopped(15)

    monkeypatch.setattr(Trial, "report", stopping)
    ended = podium("search", *flags)
    assert ended.code == 143, ended.err
    monkeypatch.undo()
    assert podium("prepare", "--num-folds", 3).code == 0  # a search keeps the snapshot that it was begun with
    ended = podium("search", *flags)
    assert ended.code == 0, ended.err
    assert "trial 1 was being trained when the search ended; it is continued" in ended.out
    assert "resumes after epoch 1" in (prepared / "searches/search/logs/trial-1.txt").read_text()
    assert facts(prepared) == facts(prepared, "whole")


def test_a_log_that_was_cut_anywhere_in_its_last_lines_is_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "study.log"
    study = open_study(file, True, False, 1)
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    data, lines = file.read_bytes(), file.read_bytes().splitlines(keepends=True)
    for length in range(len(data) - sum(map(len, lines[-2:])), len(data) + 1, 7):
        file.write_bytes(data[:length])
        repair(file)
        opened_again = open_study(file, True, False, 1)
        opened_again.tell(opened_again.ask(), 3.0)
        assert opened_again.best_value == 3.0


def test_a_trial_that_lags_behind_is_pruned(prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.searching.study.NUM_BEFORE_PRUNING", 1)
    monkeypatch.setattr(
        "src.inference.predictor.score_of", lambda *_: 0.5 if not trials_of(prepared)[1:] else 0.1
    )  # of the first trial, and of all later ones
    ended = podium("search", *SPACE, "--trials", 2, "--no-report")
    assert "trial 1: pruned at 0.1000" in ended.out, ended.out + ended.err
    assert "1 trials finished, 1 pruned, 0 failed" in ended.out


def test_without_optuna_the_line_says_what_to_install(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else object())
    ended = podium("search", *SPACE)
    assert (ended.code, ended.err) == (
        2, "error: src.search: optuna not installed; pip install -r requirements-search.txt\n"
    )  # fmt: skip


@pytest.mark.slow
def test_workers_that_are_killed_lose_no_trial(prepared: Path) -> None:
    flags = [str(part) for part in (*SPACE, "--trials", 6, "--workers", 2, "--no-report")]
    flags[flags.index("epochs=2")] = "epochs=30"
    command = [sys.executable, "-m", "src.search", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = prepared / "searches/search/study.log"

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(command, cwd=prepared.parents[1], env=environment, text=True, stdout=subprocess.PIPE)

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count(text) >= 2):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with start() as search:
        wait_for('"op_code":7')  # both may be training
        os.kill(search.pid, signal.SIGKILL)
        search.communicate()
    time.sleep(2)  # its workers end with it
    with start() as search:
        out, _ = search.communicate(timeout=600)
    assert search.returncode == 0
    assert "was being trained when the search ended; it is continued" in out
    assert "6 trials finished" in out
    assert " 0 failed" in out


def test_a_changed_flag_is_named_before_anything_is_prepared(prepared: Path, podium: Podium) -> None:
    refused(podium("search", *SPACE, "--report-fold", 7), "--report-fold 7: the folds are 0, 1")
    assert podium("search", *SPACE, "--trials", 1, "--no-report").code == 0
    current = prepared / "searches/search/trials/svhn/prepared/current.json"
    before = current.read_bytes()
    refused(podium("search", *SPACE, "--seed", 4), "this search was started with --seed 0, not 4")
    assert current.read_bytes() == before
