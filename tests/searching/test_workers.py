"""Workers that die: their trial is continued once, then it has failed; what dies at once is not started for ever."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from src.core.errors import InputError
from src.searching import workers
from src.searching.study import open_study
from src.searching.trials import Search, outcome
from src.searching.workers import _of_killed, _run
from tests.searching.studies import begun, make_search

SIGKILLED = -9


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return make_search(tmp_path, "lr=1e-4..1e-2:log", "epochs=12", workers=2)


@pytest.fixture
def study(search: Search) -> Any:
    return open_study(search.file, True, True, search.early)


def test_a_trial_whose_process_is_killed_is_continued_once_and_then_it_has_failed(
    search: Search, study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = (begun(study, search, worker).number for worker in (0, 1))
    assert _of_killed(study, 0, SIGKILLED, {}) == [mine]
    assert _of_killed(study, 0, SIGKILLED, {}) == []
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.RUNNING]
    why = "failed: its process was killed by signal 9, 2 times; is there enough memory for --workers?"
    assert outcome(study.get_trials()[mine]) == why
    assert capsys.readouterr().out.splitlines() == [
        f"trial {mine}: its process was killed by signal 9; it is continued", f"trial {mine}: {why}"
    ]  # fmt: skip
    assert _of_killed(study, 1, SIGKILLED, {}) == [other]  # each has two lives of its own


def test_a_search_whose_first_trials_all_kill_their_processes_ends(search: Search, study: Any) -> None:
    for _ in range(2):
        begun(study, search)
        assert _of_killed(study, 0, SIGKILLED, {})
        assert not _of_killed(study, 0, SIGKILLED, {})
    begun(study, search)
    assert _of_killed(study, 0, 1, {})
    with pytest.raises(InputError, match="all of the first 3 trials failed, the last: failed: its process ended with"):
        _of_killed(study, 0, 1, {})


def with_processes(monkeypatch: pytest.MonkeyPatch, codes: dict[int, list[int | None]]) -> list[Any]:
    """Let each worker's processes end with these codes, None for one that runs on; return the list of what starts."""
    started: list[Any] = []

    def start(search: Search, worker: int, begun: list[int], deadline: float) -> Any:
        started.append((worker, begun))

        def end() -> None:
            started.append((worker, "terminated"))

        return SimpleNamespace(exitcode=codes[worker].pop(0), terminate=end, join=lambda: None)

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers, "TICK", 0.0)
    return started


def test_a_worker_that_is_killed_is_started_again_with_its_trial(
    search: Search, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = with_processes(monkeypatch, {0: [SIGKILLED, 0], 1: [0]})
    number = begun(study, search).number
    _run(search, study, {0: [], 1: []}, math.inf)
    assert started == [(0, []), (1, []), (0, [number])]


def test_a_worker_that_dies_twice_before_it_trains_anything_ends_the_search_and_the_others(
    search: Search, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = with_processes(monkeypatch, {0: [1, 1], 1: [None]})
    with pytest.raises(InputError, match="worker 0: its process ended with code 1 while it trained nothing, 2 times"):
        _run(search, study, {0: [], 1: []}, math.inf)
    assert started == [(0, []), (1, []), (0, []), (1, "terminated")]


def test_a_worker_that_dies_after_the_last_trial_is_not_missed(
    search: Search, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(search.config.trials):
        study.tell(begun(study, search), 0.5)
    started = with_processes(monkeypatch, {0: [-11], 1: [0]})
    _run(search, study, {0: [], 1: []}, math.inf)
    assert started == [(0, []), (1, [])]
