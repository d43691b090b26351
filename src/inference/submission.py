"""From probabilities to a file that the organiser accepts, and the JSON that says how to make it again."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from src.competitions.decision import Rule
from src.competitions.spec import Competition
from src.config import InferenceFlags
from src.core.errors import InputError
from src.core.flags import check_range
from src.core.locking import delete_stale, locked, temporary_of
from src.core.progress import followed_by
from src.core.records import adapter_of, write_sealed
from src.core.runtime import choose_compute, in_world
from src.core.world import World
from src.core.writing import sha256_of, write_arrays, write_csv
from src.data.loader import INFERENCE_BATCH_SIZE
from src.inference.answers import answers_table, validate
from src.inference.autotune import check_compile
from src.inference.ensemble import PredictedTest, predict_test, views_of, weighted_mean
from src.inference.onnx_runtime import check_engine
from src.inference.predictor import Predictor
from src.inference.testset import TestSet
from src.inference.unsure import unsure_of
from src.inference.views import AUTO
from src.metrics import goodness
from src.runs.fold import TrainedFold
from src.runs.record import FoldResult, RunRecord
from src.runs.run import Run
from src.runs.versions import versions

Facts = Mapping[str, Any]
MIN_HARM = 0.005  # share of a score: less may be chance


def make_predictor(config: InferenceFlags, competition: Competition, world: World, tta: bool = True) -> Predictor:
    """Return how predict and blend answer test images. Raises InputError for flags that this machine cannot serve.

    Several ranks do not look for the fastest way: each would find another.
    """
    check_range("batch-size", config.batch_size, 1)
    check_compile(config.compile == "on")
    compute = in_world(choose_compute(config.device, config.precision), world)
    check_engine(config.engine, compute)
    if (config.engine, config.compile) == ("onnx", "on"):
        raise InputError("--engine onnx --compile on: torch.compile is for torch; leave one of them out")
    return Predictor(
        competition=competition,
        compute=compute,
        tta=tta,
        tune=world.size == 1 or config.compile == "on",
        engine=config.engine if world.size == 1 else "torch",
        batch_size=config.batch_size or (INFERENCE_BATCH_SIZE if world.size > 1 else None),
        compile=config.compile if world.size == 1 or config.compile == "on" else "off",
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A run's mean probabilities for the test images, and what the submission's JSON says of it."""

    probabilities: np.ndarray  # (N, num_outputs)
    num_unreadable: int  # images answered from a black one
    facts: dict[str, Any]


def answer(
    run: Run,
    folds: tuple[int, ...] | None,
    test: TestSet,
    predictor: Predictor,
    weight: float,
    runs_after: int = 0,
    unsure_only: bool = False,
) -> Answer:
    """Predict the test images with every trained fold of a run, or the chosen ones; `runs_after` others follow.

    `unsure_only`: further views only for the images that need them.
    """
    world = predictor.compute.world
    trained = world.together(lambda: run.trained(folds))
    note_absent(run, trained, folds)
    note_harmful_views(run, trained, predictor.tta)
    predictor = replace(predictor, view_names=world.together(lambda: views_of(run, trained, predictor.tta)))
    unsure = world.together(lambda: unsure_of(run, tuple(fold.number for fold in trained))) if unsure_only else None
    if unsure:
        print(unsure.describe(run.name))
        predictor = replace(predictor, confidence_threshold=unsure.confidence_threshold)
    cache = world.together(lambda: test.cache(run.prepared, run.started_record.cache_size))
    parts: list[PredictedTest] = []
    for fold in trained:
        stages_after = (1 + runs_after) * len(trained) - len(parts) - 1
        with followed_by(partial(mul, stages_after)):
            parts.append(predict_test(run, fold, cache, test, predictor))
        print(f"{run.name}, fold {fold.number}: {len(parts[-1].probabilities):,} test images")
    engines = [part.engine for part in parts]
    return Answer(
        probabilities=weighted_mean([part.probabilities for part in parts], [1.0] * len(parts)),
        num_unreadable=test.num_unreadable(cache),
        facts=facts_of(run, trained, predictor, weight, engines) | ({"unsure_only": unsure.facts()} if unsure else {}),
    )


def note_absent(run: Run, trained: Sequence[TrainedFold], folds: tuple[int, ...] | None) -> None:
    """Print which folds of a run do not answer because they are not trained, unless some were asked for."""
    absent = _absent(run, trained)
    if absent and not folds:
        print(f"note: {run.name}: fold {', '.join(map(str, absent))} is not trained to its end and does not answer")


def note_harmful_views(run: Run, trained: Sequence[TrainedFold], tta: bool) -> None:
    """Print that views lower the score, if they do in every fold by more than MIN_HARM of it."""
    if not tta or AUTO in run.started_record.train.views:
        return
    scores = [(fold.result.score, fold.result.score_tta) for fold in trained if fold.result]
    losses = [goodness(plain, run.competition) - goodness(views, run.competition) for plain, views in scores]
    if scores and all(loss > MIN_HARM * abs(plain) for loss, (plain, _) in zip(losses, scores, strict=True)):
        plain, views = scores[0]
        print(
            f"note: {run.name}: its views score worse than the plain images in every fold (fold {trained[0].number}: "
            f"{views:.4f}, {plain:.4f}); predict --no-tta answers without them"
        )


def _absent(run: Run, answered: Sequence[TrainedFold]) -> list[int]:
    return sorted(set(run.prepared.fold_numbers("all")) - {fold.number for fold in answered})


def facts_of(
    run: Run, answered: Sequence[TrainedFold], predictor: Predictor, weight: float, engines: Sequence[str]
) -> dict[str, Any]:
    """Return what the submission's JSON says of a run whose folds answered."""
    return {
        "run": run.name,
        "run_id": run.id,
        "snapshot": run.prepared.id,
        "weight": weight,
        "views": list(predictor.views(run.started_record.model.image_size)),
        **adapter_of(RunRecord).dump_python(run.started_record, mode="json", include={"model", "train", "weights"}),
        "folds": [
            {"fold": fold.number, "engine": engine, **_described(fold.result)}
            for fold, engine in zip(answered, engines, strict=True)
        ],
        "folds_absent": _absent(run, answered),
    }


def _described(result: FoldResult) -> dict[str, Any]:
    found: dict[str, Any] = adapter_of(FoldResult).dump_python(result, mode="json")
    return found


def same_classes(runs: Sequence[Run]) -> Competition:
    """Return the competition of runs that are answered together. Raises InputError if their classes differ."""
    for run in runs[1:]:
        if run.competition.heads != runs[0].competition.heads:
            raise InputError(
                f"--run-name: {run.name} was trained on other classes (snapshot {run.prepared.id}) than {runs[0].name} "
                f"(snapshot {runs[0].prepared.id}); train them on the same snapshot"
            )
    return runs[0].competition


def averaged(answers: Sequence[Answer]) -> np.ndarray:
    """Return the mean of the answers' probabilities with their weights, (N, num_outputs)."""
    return weighted_mean([one.probabilities for one in answers], [one.facts["weight"] for one in answers])


def write_submission(
    folder: Path,
    name: str,
    answers: Sequence[Answer],
    test: TestSet,
    competition: Competition,
    facts: Facts,
    rule: Rule | None = None,
    probabilities: np.ndarray | None = None,
) -> Path:
    """Average the answers with their weights, decide, validate, and write <name>.csv, .npz (probabilities) and .json.

    probabilities (N, num_outputs): what was made of the answers instead of their average.
    Prints what is suspicious: test images that could not be read, answers that are all the same.
    """
    rule = rule or Rule()
    if probabilities is None:
        probabilities = averaged(answers)
    table, path = answers_table(probabilities, test, competition, rule), folder / f"{name}.csv"
    num_unreadable = max(one.num_unreadable for one in answers)
    with locked(folder / name, "is writing this submission", wait=True):
        delete_stale(folder)
        pending = temporary_of(path)
        try:
            write_csv(pending, table)
            validate(pending, test, competition)
            paths = np.array(test.image_paths, dtype=str)
            write_arrays(folder / f"{name}.npz", image_path=paths, probabilities=probabilities)
            note = {
                "submission": path.name,
                "sha256": sha256_of(pending),
                "probabilities_sha256": sha256_of(folder / f"{name}.npz"),
                "num_answers": len(table),
                "num_unreadable": num_unreadable,
                "sample_submission": test.sample,
                "competition": competition.name,
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "rule": {head.name: list(cuts) for head, cuts in zip(competition.heads, rule.cuts, strict=False)},
                **facts,
                "runs": [one.facts for one in answers],
                "versions": versions(),
            }
            write_sealed(folder / f"{name}.json", note)
            pending.replace(path)
        finally:
            pending.unlink(missing_ok=True)
    unreadable = f"note: {num_unreadable:,} of {len(test.image_paths):,} test images are missing or unreadable and "
    unreadable += "answered from a black image"
    notes = [test.note, competition.columns_note, unreadable * bool(num_unreadable)]
    for line in (*notes, _same_answers(table.iloc[:, 1].tolist())):
        if line:
            print(line)
    print(f"validated against the sample submission: {path}")
    return path


def _same_answers(answers: list[str]) -> str:
    if len(answers) < 2 or len(set(answers)) > 1:
        return ""
    return f"warning: all {len(answers):,} answers are {answers[0]!r}; look at the test images and at the run's score"
