"""A trial: what it prints, what of the search is left after it, and when it may be pruned."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import Trial, TrialState, create_trial

from src.core.errors import InputError
from src.core.progress import Progress
from src.searching import trials
from src.searching.study import open_study
from src.searching.trials import Search, run_trial, time_left
from tests.searching.studies import begun, make_search

SPACE = ("lr=1e-4..1e-2:log", "epochs=12")


def test_a_trial_shows_no_bar_and_its_line_tells_what_is_left_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, now = make_search(tmp_path, *SPACE, trials=3), [0.0]
    study = open_study(search.file, True, True, search.early)

    def train(search: Search, trial: Trial) -> float:
        assert Progress.silent
        print("epoch 1")
        now[0] += 600
        if trial.number == 1:
            raise InputError("too large")
        return 0.5 + 0.1 * trial.number

    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(trials, "train_trial", train)
    for _ in range(3):
        run_trial(search, study, begun(study, search))
    assert not Progress.silent
    assert (tmp_path / "logs" / "trial-0.txt").read_text() == "epoch 1\n"
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == (
        "trial 0: 0.5000, best 0.5000 (trial 0); lr=0.002; 10 min; 1 of 3 done, about 40 min left"
    )  # two trials, and two trainings that are compared
    assert second.startswith("trial 1: failed: too large, best 0.5000 (trial 0); lr=")
    assert second.endswith("; 10 min; 2 of 3 done, about 30 min left")
    assert third.endswith("; 10 min; 3 of 3 done, about 20 min left")


@pytest.mark.parametrize(
    ("flags", "seconds", "words"),
    [
        ({"trials": 10, "report": False}, math.inf, "2 of 10 done, about 80 min left"),
        ({"trials": 10, "report": False, "workers": 4}, math.inf, "2 of 10 done, about 20 min left"),
        ({"trials": 10, "report": False, "workers": 16}, math.inf, "2 of 10 done, about 10 min left"),
        ({"trials": 10, "report": False}, 240.0, "2 of 10 done, about 4 min left"),  # --minutes end it
        ({"trials": 10, "report": False}, -5.0, "2 of 10 done"),
        ({"trials": 2, "report": False}, math.inf, "2 of 2 done"),
        ({"trials": 2}, math.inf, "2 of 2 done, about 30 min left"),  # two trainings of 15 min
        ({"trials": 2, "scored_folds": 3}, math.inf, "2 of 2 done, about 10 min left"),  # of three folds in 15 min
    ],
)
def test_the_time_left_counts_the_trials_the_workers_and_the_last_trainings(
    tmp_path: Path, flags: dict[str, Any], seconds: float, words: str
) -> None:
    search = make_search(tmp_path, *SPACE, **flags)
    study = open_study(search.file, True, True, search.early)
    for state, value, took in ((TrialState.COMPLETE, 0.5, 900.0), (TrialState.PRUNED, None, 300.0)):
        study.add_trial(create_trial(state=state, value=value, user_attrs={"seconds": took}))
    assert time_left(search, study, seconds) == words


@pytest.mark.parametrize(("epochs", "num_steps"), [("epochs=12", 12), ("epochs=8..24", 10)])
def test_no_trial_is_pruned_in_the_first_quarter_of_its_training(tmp_path: Path, epochs: str, num_steps: int) -> None:
    search = make_search(tmp_path, SPACE[0], epochs)
    study = open_study(search.file, True, True, search.early)
    steps = range(1, num_steps + 1)
    for _ in range(4):
        study.add_trial(create_trial(value=0.9, intermediate_values=dict.fromkeys(steps, 0.9)))
    trial, pruned = study.ask(), []
    for step in steps:
        trial.report(0.1, step)
        pruned.append(trial.should_prune())
    assert pruned == [step > 3 for step in steps]  # 3 of 12 epochs, or the 3 tenths that hold a quarter
