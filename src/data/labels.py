"""The label table: image_path, one integer target column per head, and what else the competition tells."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from src.competitions.spec import Competition, Head, load_competition
from src.core.errors import InputError
from src.core.reading import parse_csv


def check_labels(labels: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Return the table's known columns. Raises InputError for absent ones, names given twice and ids out of range."""
    for column in ("image_path", *competition.targets):
        if column not in labels.columns:
            raise InputError(f"{competition.name}: read_train gives no column {column!r}")
    repeated = labels["image_path"][labels["image_path"].duplicated()]
    if len(repeated):
        raise InputError(f"{competition.name}: image {repeated.iloc[0]!r} is labelled twice; remove one of the rows")
    for head in competition.heads:
        values = labels[head.name]
        if not pd.api.types.is_integer_dtype(values):
            raise InputError(f"{competition.name}: column {head.name!r} must hold integers, not {values.dtype}")
        wrong = labels[(values < 0) | (values >= head.num_classes)]
        if len(wrong):
            row = wrong.iloc[0]
            raise InputError(
                f"{row['image_path']}: {head.name} is {row[head.name]}, outside 0-{head.num_classes - 1}; correct it"
            )
    known = ("image_path", *competition.targets, "group", "boxes", "split")
    return labels[[column for column in known if column in labels.columns]]


def check_test(test: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Return image_path and id. Raises InputError if one of them is absent."""
    for column in ("image_path", "id"):
        if column not in test.columns:
            raise InputError(f"{competition.name}: read_test gives no column {column!r}")
    return test[["image_path", "id"]]


def open_competition(name: str, runs_dir: Path) -> tuple[Competition, Path]:
    """Return a competition with the heads that prepare found, and its prepared folder. Raises InputError."""
    competition = load_competition(name)
    folder = runs_dir / competition.name / "prepared"
    path = folder / "competition.json"
    if not path.is_file():
        raise InputError(f"{path}: not there; run python -m src.prepare --competition {name} first")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        heads = tuple(Head(name=head["name"], classes=tuple(head["classes"])) for head in facts["heads"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); run python -m src.prepare again") from error
    return replace(competition, heads=heads), folder


def read_prepared(folder: Path, table: str) -> pd.DataFrame:
    """Read labels.csv, test.csv or folds.csv as prepare wrote it: text stays text, targets are integers."""
    path = folder / f"{table}.csv"
    if not path.is_file():
        raise InputError(f"{path}: not there; run python -m src.prepare first")
    try:
        frame = parse_csv(path.read_bytes(), str(path)).reset_index(drop=True)
        for column in frame.columns.difference(["image_path", "id", "boxes", "split"]):
            frame[column] = frame[column].replace("", pd.NA).astype("Int64" if column == "fold" else "int64")
        return frame
    except ValueError as error:  # an InputError too
        raise InputError(f"{path}: is damaged ({error}); run python -m src.prepare again") from error
