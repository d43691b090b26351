"""From probabilities to a file that the organiser accepts, and the note that says how to make it again."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.reading import parse_csv
from src.core.writing import sha256_of, write_arrays, write_csv, write_json
from src.data.labels import read_prepared
from src.models.heads import most_probable
from src.runs.run import TrainedFold, versions

PREPARED = ("labels.csv", "folds.csv", "test.csv", "train.json", "test.json")  # whose hashes the note gives


def validate(path: Path, ids: pd.Series, competition: Competition) -> None:
    """Check a submission against the sample submission's ids.

    Raises InputError for another header, absent, extra, repeated or reordered ids, empty answers, and answers that no
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
    """Return the pattern of all answers: one class per head, or with a blank the first one or more heads only."""
    pattern = ""
    for head in reversed(competition.heads):
        texts = "|".join(re.escape(text) for text in head.classes if text)
        rest = f"(?:{pattern})?" if pattern and competition.pad_class is not None else pattern
        pattern = f"(?:{texts}){rest}"
    return re.compile(pattern, re.DOTALL)


def write_submission(
    folder: Path,
    name: str,
    probabilities: np.ndarray,
    competition: Competition,
    prepared: Path,
    facts: Mapping[str, Any],
) -> Path:
    """Decode, write <name>.csv, validate it, and put <name>.npz (probabilities) and <name>.json (facts) beside it."""
    test = read_prepared(prepared, "test")
    answers = [competition.decode(ids) for ids in most_probable(probabilities, competition).tolist()]
    id_column, answer_column = competition.columns
    path = folder / f"{name}.csv"
    pending = folder / f".{name}.unchecked.csv"
    try:
        write_csv(pending, pd.DataFrame({id_column: test["id"], answer_column: answers}))
        validate(pending, test["id"], competition)
        paths = test["image_path"].to_numpy(dtype=str)
        write_arrays(folder / f"{name}.npz", image_path=paths, probabilities=probabilities)
        note = {
            "submission": path.name,
            "sha256": sha256_of(pending),
            "num_answers": len(test),
            "competition": competition.name,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **facts,
            "prepared": {file: sha256_of(prepared / file) for file in PREPARED},
            "versions": versions(),
        }
        write_json(folder / f"{name}.json", note)
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)
    return path


def describe_folds(folds: list[TrainedFold]) -> list[dict[str, Any]]:
    """Return what the note says of each fold: its score, weights and settings."""
    return [
        {
            "fold": fold.number,
            **fold.config["result"],
            "weights_sha256": sha256_of(fold.weights_file),
            "model": fold.config["model"],
            "train": fold.config["train"],
        }
        for fold in folds
    ]
