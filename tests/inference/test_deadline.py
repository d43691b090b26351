"""predict --minutes: what fits is answered as always, what does not is left out and told, and the file is whole."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config import PredictConfig
from src.core.world import World
from src.inference import deadline
from src.inference.deadline import Cost, interleaved, plan
from src.inference.submission import make_predictor
from src.inference.testset import open_test_set
from tests.helpers import run_at
from tests.world import done, refused, run_command

VIEWS = 5


def made(world: Path, name: str) -> tuple[np.ndarray, dict[str, Any], str]:
    """Return a submission's probabilities, its JSON and its text."""
    folder = world / "submissions" / "svhn"
    with np.load(folder / f"{name}.npz") as arrays:
        found = arrays["probabilities"]
    return found, json.loads((folder / f"{name}.json").read_text()), (folder / f"{name}.csv").read_text()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1000, (3, 5)), (34, (3, 2)), (30, (3, 1)), (22, (2, 2)), (20, (2, 1)), (19, (1, 5)), (9, (1, 1)), (-5, (1, 1))],
)
def test_folds_come_before_views_and_one_of_each_is_always_there(seconds: float, expected: tuple[int, int]) -> None:
    assert plan([Cost(1.0, 9.0, 1.0)] * 3, [5, 5, 5], seconds) == expected


def test_a_run_with_fewer_views_costs_less_and_runs_take_turns() -> None:
    assert plan([Cost(0.0, 1.0, 1.0)] * 2, [5, 2], 7.0) == (2, 5)
    named: Any = [["a0", "a1", "a2"], ["b0"]]
    assert interleaved(named) == ["a0", "b0", "a1", "a2"]


def test_with_enough_time_the_answers_are_those_of_always(world: Path) -> None:
    for file in world.glob("runs/svhn/*/fold*/test.npz"):
        file.unlink()
    ended = done(world, "predict", "--name", "timed", "--minutes", "60")
    assert f"60 min are enough for all 2 folds with all {VIEWS} views" in ended.out
    always, timed = made(world, "baseline"), made(world, "timed")
    assert np.array_equal(always[0], timed[0])
    assert always[2] == timed[2]
    assert timed[1]["minutes"]["networks"] == [2, 2]
    assert timed[1]["runs"] == always[1]["runs"]


def test_what_does_not_fit_is_left_out_and_the_rest_is_what_these_folds_and_views_answer(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = 60 - deadline.RESERVE - deadline.RESERVE_SHARE * 60
    monkeypatch.setattr(deadline, "measure", lambda network, test: Cost(0.0, 0.6 * minute, 0.3 * minute))
    ended = done(world, "predict", "--minutes", "1", "--name", "one")
    assert "1 min: 1 of 2 folds answer with 2 of 5 views (original, left); all would take about" in ended.out
    found, note, _ = made(world, "one")
    assert [fold["fold"] for fold in note["runs"][0]["folds"]] == [0]
    assert note["runs"][0]["views"] == ["original", "left"]
    assert note["runs"][0]["folds_absent"] == [1]
    assert (note["minutes"]["networks"], note["minutes"]["views"]) == ([1, 2], [2, 5])
    monkeypatch.setattr("src.inference.submission.views_of", lambda run, trained, tta: ("left",))
    done(world, "predict", "--folds", "0", "--name", "same")
    assert np.array_equal(found, made(world, "same")[0])
    monkeypatch.setattr(deadline, "measure", lambda network, test: Cost(0.0, 0.9 * minute, 0.3 * minute))
    done(world, "predict", "--minutes", "1", "--name", "plain")
    done(world, "predict", "--folds", "0", "--no-tta", "--name", "same")
    assert np.array_equal(made(world, "plain")[0], made(world, "same")[0])
    assert done(world, "submit", "--name", "plain").code == 0  # scored out of fold without views, too


def test_if_time_runs_out_the_file_is_whole_and_says_so(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "RESERVE", 1e6)
    monkeypatch.setattr(deadline, "CHUNK_SECONDS", 0.0)
    ended = done(world, "predict", "--minutes", "1", "--batch-size", "1", "--name", "late")
    assert "too few for one fold and one view: the last 2 images get the mean prediction of the others" in ended.out
    found, note, text = made(world, "late")
    assert note["minutes"]["images_not_reached"] == 2
    assert np.array_equal(found[1], found[0])
    assert text.count("\n") == 4


def test_a_fold_that_is_slower_than_measured_is_dropped(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = deadline.predict_until, []

    def slow(network: deadline.Network, *given: Any) -> np.ndarray:
        calls.append(network.fold.number)
        return real(network, *given)[: 3 if len(calls) == 1 else 1]

    monkeypatch.setattr(deadline, "predict_until", slow)
    done(world, "predict", "--minutes", "60", "--batch-size", "2", "--name", "dropped")
    found, note, _ = made(world, "dropped")
    assert calls == [0, 1]
    assert note["minutes"]["networks"] == [1, 2]
    assert note["minutes"]["images_not_reached"] == 0
    done(world, "predict", "--folds", "0", "--batch-size", "2", "--name", "same")
    assert np.array_equal(found, made(world, "same")[0])


def test_measured_costs_are_those_of_the_whole_test_set(world: Path) -> None:
    run = run_at(world / "runs" / "svhn" / "baseline")
    config = PredictConfig(runs_dir=world / "runs", input_dir=world / "input", device="cpu")
    prepared = replace(run.prepared, config=config)
    test = open_test_set(prepared)
    predictor = make_predictor(config, run.competition, World())
    (network, *_) = deadline.open_networks([run], None, test, predictor)
    cost = deadline.measure(network, test)
    assert cost.plain > 0
    assert cost.of(1) == cost.load + cost.plain
    assert network.with_views(1).views == ("original",)
    assert not network.with_views(1).predictor.tta
    assert network.with_views(9) is network


def test_flags_that_do_not_go_together_are_refused(world: Path) -> None:
    refused(run_command(world, "predict", "--minutes", "0"), "--minutes 0.0: must be at least 0.05")
    refused(run_command(world, "predict", "--minutes", "5", "--compile", "on"), "--minutes and --compile on")
