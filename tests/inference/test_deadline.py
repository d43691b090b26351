"""predict --minutes: what fits is answered as always, what does not is skipped and told, and the file is whole."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from src.inference import deadline, ensemble
from src.inference.deadline import interleaved, those_that_answered
from tests.world import done, refused, run_command

Pass = tuple[int, str]  # fold and view


def made(world: Path, name: str) -> tuple[np.ndarray, dict[str, Any], str]:
    """Return a submission's probabilities, its JSON and its text."""
    folder = world / "submissions" / "svhn"
    with np.load(folder / f"{name}.npz") as arrays:
        found = arrays["probabilities"]
    return found, json.loads((folder / f"{name}.json").read_text()), (folder / f"{name}.csv").read_text()


class Passes(list[Pass]):
    """The passes that were begun; those after the first `limit` do not end in time."""

    limit = 99

    def begin(self, limit: int) -> None:
        self.clear()
        self.limit = limit


@pytest.fixture
def passes(world: Path, monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Return a record of the passes; no predictions are kept yet."""
    real, begun = deadline.predict_until, Passes()

    def predict(network: deadline.FoldNetwork, view: str, *given: Any, **more: Any) -> np.ndarray | None:
        begun.append((network.fold.number, view))
        return real(network, view, *given, **more) if len(begun) <= begun.limit else None

    monkeypatch.setattr(deadline, "predict_until", predict)
    for file in world.glob("runs/svhn/*/fold*/test.npz"):
        file.unlink()
    return begun


def test_runs_take_turns() -> None:
    named: Any = [["a0", "a1", "a2"], ["b0"]]
    assert interleaved(named) == ["a0", "b0", "a1", "a2"]


def test_with_enough_time_the_answers_are_those_of_always(world: Path, passes: Passes) -> None:
    ended = done(world, "predict", "--name", "timed", "--minutes", "60")
    assert "60 min are enough for all 2 folds with all 5 views" in ended.out
    always, timed = made(world, "baseline"), made(world, "timed")
    assert np.array_equal(always[0], timed[0])
    assert always[2] == timed[2]
    assert timed[1]["runs"] == always[1]["runs"]
    assert passes[:4] == [(0, "original"), (1, "original"), (0, "left"), (1, "left")]
    passes.clear()
    done(world, "predict", "--name", "again", "--minutes", "60")
    assert not passes  # kept
    assert made(world, "again")[2] == always[2]


def test_what_does_not_fit_is_left_out_and_the_rest_is_what_these_folds_and_views_answer(
    world: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes.begin(5)  # of the third view only fold 0's, which does not count
    ended = done(world, "predict", "--minutes", "1", "--name", "two")
    assert "1 min: 2 of 2 folds answer with 2 of 5 views (original, left); all would take about" in ended.out
    found, note, _ = made(world, "two")
    assert note["runs"][0]["views"] == ["original", "left"]
    assert (note["minutes"]["networks"], note["minutes"]["views"]) == ([2, 2], [2, 5])
    passes.begin(1)
    done(world, "predict", "--minutes", "1", "--name", "one")
    one, note, _ = made(world, "one")
    assert [fold["fold"] for fold in note["runs"][0]["folds"]] == [0]
    assert (note["runs"][0]["views"], note["runs"][0]["folds_absent"]) == (["original"], [1])
    assert done(world, "submit", "--name", "one").code == 0  # scored out of fold without views, too
    done(world, "predict", "--folds", "0", "--no-tta", "--name", "same")
    assert np.array_equal(one, made(world, "same")[0])
    monkeypatch.setattr("src.inference.submission.views_of", lambda run, trained, tta: ("left",))
    done(world, "predict", "--name", "same")
    assert np.array_equal(found, made(world, "same")[0])


def test_what_is_fitted_after_training_is_fitted_on_the_folds_that_answer(
    world: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Any] = []
    real = ensemble.fitted_rule

    def fit(runs: Any, folds: Any, tta: bool) -> Any:
        fitted.append(([run.name for run in runs], folds, tta))
        return real(runs, folds, tta)

    monkeypatch.setattr(ensemble, "fitted_rule", fit)
    passes.begin(1)
    done(world, "predict", "--minutes", "1", "--name", "one")
    assert fitted == [(["baseline"], None, True), (["baseline"], (0,), False)]


def answer_of(run: str, folds: list[int], views: list[str]) -> Any:
    return SimpleNamespace(facts={"run": run, "folds": [{"fold": fold} for fold in folds], "views": views})


def test_runs_of_other_snapshots_and_other_views_are_taken_together() -> None:
    runs: Any = [SimpleNamespace(name=name, prepared=SimpleNamespace(id=of)) for name, of in (("a", "1"), ("b", "1"))]
    answers = [answer_of("a", [0, 1], ["original"]), answer_of("b", [0], ["original", "left"])]
    assert those_that_answered(runs, answers) == (runs, (0,), True)
    assert those_that_answered(runs, answers[:1]) == (runs[:1], (0, 1), False)
    runs[1].prepared.id = "2"  # its fold 0 holds out other images
    assert those_that_answered(runs, answers) == (runs, None, True)


def test_if_time_runs_out_the_file_is_whole_and_says_so(
    world: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "RESERVE", 1e6)
    ended = done(world, "predict", "--minutes", "1", "--batch-size", "1", "--name", "late")
    assert "too few for one fold and one view: the last 2 images get the mean prediction of the others" in ended.out
    found, note, text = made(world, "late")
    assert note["minutes"]["images_not_reached"] == 2
    assert np.array_equal(found[1], found[0])
    assert text.count("\n") == 4
    assert passes == [(0, "original")]


def test_a_pass_that_would_end_too_late_is_given_up_after_its_first_batches(
    world: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ticks = deadline.time.monotonic, [0.0]
    monkeypatch.setattr(deadline.time, "monotonic", lambda: clock() + ticks[0])
    real = deadline.Predictor.predict_view

    def slow(predictor: deadline.Predictor, network: Any, loader: Any, view: str) -> np.ndarray:
        ticks[0] += 1000.0 if len(passes) == 2 else 0.0  # of fold 1's first image
        return real(predictor, network, loader, view)

    monkeypatch.setattr(deadline.Predictor, "predict_view", slow)
    done(world, "predict", "--minutes", "30", "--batch-size", "1", "--name", "dropped")
    assert passes == [(0, "original"), (1, "original")]
    assert ticks == [1000.0]
    assert made(world, "dropped")[1]["minutes"]["networks"] == [1, 2]


def test_flags_that_do_not_go_together_are_refused(world: Path) -> None:
    refused(run_command(world, "predict", "--minutes", "0"), "--minutes 0.0: must be at least 0.05")
    refused(run_command(world, "predict", "--minutes", "5", "--compile", "on"), "--minutes and --compile on")
    refused(run_command(world, "predict", "--minutes", "5", "--engine", "onnx"), "--minutes and --engine onnx")
