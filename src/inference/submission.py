"""From probabilities to a file that the organiser accepts, and the JSON that says how to make it again."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from src.competitions.spec import Competition
from src.config import InferenceFlags
from src.core.errors import InputError
from src.core.flags import check_range
from src.core.reading import parse_csv
from src.core.runtime import choose_compute
from src.core.writing import sha256_of, write_arrays, write_csv, write_json
from src.data.prepared import Prepared
from src.inference.autotune import check_compile
from src.inference.ensemble import predict_test, weighted_mean
from src.inference.predictor import Predictor
from src.models.heads import most_probable
from src.runs.record import FoldRecord
from src.runs.run import Run, TrainedFold
from src.runs.versions import versions


def validate(path: Path, ids: pd.Series, competition: Competition) -> None:
    """Check a submission against the sample submission's ids.

    Raises InputError for another header, missing, extra, repeated or reordered ids, empty answers, and answers that no
    combination of classes spells.
    """
    table = parse_csv(path.read_bytes(), str(path))
    if tuple(table.columns) != competition.columns:
        raise InputError(
            f"{path}, line 1: the header is {','.join(table.columns)}, expected {','.join(competition.columns)}"
        )
    id_column, answer_column = competition.columns
    found, expected = table[id_column].tolist(), ids.tolist()
    if len(found) != len(expected):
        raise InputError(f"{path}: {len(found)} answers, the sample submission has {len(expected)}")
    for line, one, other in zip(table.index, found, expected, strict=True):
        if one != other:
            raise InputError(f"{path}, line {line}: id {one!r} where the sample submission has {other!r}")
    legal = legal_answer(competition)
    for line, answer in table[answer_column].items():
        if not answer:
            raise InputError(f"{path}, line {line}: the answer is empty")
        if not legal.fullmatch(answer):
            raise InputError(f"{path}, line {line}: answer {answer!r} is not made of {competition.name}'s classes")


def legal_answer(competition: Competition) -> re.Pattern[str]:
    """Return the pattern of all answers: one class per head, or with a pad class the first one or more heads only."""
    pattern = ""
    for head in reversed(competition.heads):
        texts = "|".join(re.escape(text) for text in head.classes if text)
        rest = f"(?:{pattern})?" if pattern and competition.pad_class is not None else pattern
        pattern = f"(?:{texts}){rest}"
    return re.compile(pattern, re.DOTALL)


def make_predictor(config: InferenceFlags, competition: Competition, tta: bool = True) -> Predictor:
    """Return how predict and blend answer test images. Raises InputError for flags that this machine cannot serve."""
    check_range("batch-size", config.batch_size, 1)
    check_compile(config.compile == "on")
    return Predictor(
        competition=competition,
        compute=choose_compute(config.device, config.precision),
        tta=tta,
        tune=True,
        batch_size=config.batch_size,
        compile=config.compile,
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A run's mean probabilities for the test images, and what the submission's JSON says of it."""

    probabilities: np.ndarray  # (N, num_outputs)
    facts: dict[str, Any]


def answer(run: Run, folds: tuple[int, ...] | None, predictor: Predictor, weight: float) -> Answer:
    """Predict the test images with every trained fold of a run, or the chosen ones."""
    trained = run.trained(folds)
    parts = []
    for fold in trained:
        parts.append(predict_test(run.prepared, fold, predictor, f"{run.name}, fold {fold.number}"))
        print(f"{run.name}, fold {fold.number}: {len(parts[-1]):,} test images")
    facts = {"run": run.name, "weight": weight, "views": list(predictor.views(trained[0].image_size))}
    return Answer(
        probabilities=weighted_mean(parts, [1.0] * len(parts)),
        facts={**facts, "folds": [describe(fold) for fold in trained]},
    )


def describe(fold: TrainedFold) -> dict[str, Any]:
    """Return what the JSON says of a fold: its score, weights and settings."""
    record = TypeAdapter(FoldRecord).dump_python(fold.record, mode="json")
    return {
        "fold": fold.number,
        **record["result"],
        "weights_sha256": sha256_of(fold.weights_file),
        **{name: record[name] for name in ("model", "train", "weights", "data")},
    }


def write_submission(
    folder: Path, name: str, probabilities: np.ndarray, prepared: Prepared, facts: Mapping[str, Any]
) -> Path:
    """Decode, write <name>.csv, validate it, and write <name>.npz (probabilities) and <name>.json (facts).

    Prints what is suspicious: test images that could not be read, answers that are all the same.
    """
    test, competition = prepared.test, prepared.competition
    answers = [competition.decode(ids) for ids in most_probable(probabilities, competition).tolist()]
    id_column, answer_column = competition.columns
    path = folder / f"{name}.csv"
    pending = folder / f".{name}.unchecked.csv"
    try:
        write_csv(pending, pd.DataFrame({id_column: test["id"], answer_column: answers}))
        validate(pending, test["id"], competition)
        paths = test["image_path"].to_numpy(dtype=str)
        write_arrays(folder / f"{name}.npz", image_path=paths, probabilities=probabilities)
        files = (prepared.labels_file, prepared.folds_file, prepared.test_file)
        note = {
            "submission": path.name,
            "sha256": sha256_of(pending),
            "num_answers": len(test),
            "num_unreadable": prepared.facts.test.num_unreadable,
            "competition": competition.name,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **facts,
            "prepared": {file.name: sha256_of(file) for file in files},
            "versions": versions(),
        }
        write_json(folder / f"{name}.json", note)
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)
    for line in (prepared.unreadable_note(), _same_answers(answers)):
        if line:
            print(line)
    print(f"validated against the sample submission: {path}")
    return path


def _same_answers(answers: list[str]) -> str:
    if len(answers) < 2 or len(set(answers)) > 1:
        return ""
    return f"warning: all {len(answers):,} answers are {answers[0]!r}; look at the test images and at the run's score"
