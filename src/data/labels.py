"""The label table: image_path, one integer target column per head, and what else the competition provides."""

import unicodedata
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from src.competitions.registry import load_competition
from src.competitions.spec import Competition, Head
from src.config import Paths
from src.core.errors import InputError, nearest, own_code
from src.core.reading import InputFiles
from src.core.texts import Texts


def check_labels(labels: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Return the table's known columns. Raises InputError for missing ones, repeated names and ids out of range."""
    _check_table(labels, f"{competition.name}: read_train")
    for column in ("image_path", *competition.targets):
        if column not in labels.columns:
            raise InputError(f"{competition.name}: read_train gives no column {column!r}")
    repeated = labels[labels["image_path"].duplicated()]
    if len(repeated):
        same = labels[labels["image_path"] == repeated["image_path"].iloc[0]]
        where = f": {' and '.join(same['where'])}" if "where" in labels.columns else ""
        raise InputError(
            f"{competition.name}: image {repeated['image_path'].iloc[0]!r} is labelled twice{where}; remove one of the "
            "rows"
        )
    for head in competition.heads:
        for column in head.targets:
            check_target(labels, head, column, competition.name)
    if "group" in labels.columns and labels["group"].isna().any():  # without one an image is a group of its own
        own = "image " + labels["image_path"]
        labels = labels.assign(group=labels["group"].astype(object).where(labels["group"].notna(), own))
    if "answer" in labels.columns:
        if labels["answer"].isna().any():
            path = labels["image_path"][labels["answer"].isna()].iloc[0]
            raise InputError(f"{competition.name}: read_train gives no answer for {path!r}; fill it in")
        of_answer = labels.groupby("answer")[competition.targets].nunique().max(axis=1)
        if (of_answer > 1).any():
            raise InputError(
                f"{competition.name}: the images of {of_answer.idxmax()!r} have different labels; they have one answer"
            )
    if "weight" in labels.columns:
        wrong = labels[~(np.isfinite(labels["weight"]) & (labels["weight"] >= 0))]
        if len(wrong):
            row = wrong.iloc[0]
            raise InputError(f"{row['image_path']}: weight {row['weight']} is not a number of 0 or more; correct it")
        if not labels["weight"].any():
            raise InputError(f"{competition.name}: all weights are 0; correct them")
    known = ("image_path", *competition.targets, "group", "answer", "boxes", "split", "weight")
    return labels[[column for column in known if column in labels.columns]]


def _check_table(table: Any, what: str) -> None:
    """Raise InputError unless a reader returned a DataFrame; one that forgets its `return` returns None."""
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"{what} gives a {type(table).__name__}, not a DataFrame; is its return missing?")


def check_target(labels: pd.DataFrame, head: Head, column: str, name: str) -> None:
    """Raise InputError if a target column holds anything but what its head's kind allows."""
    values = labels[column]
    if head.kind == "number":
        if not pd.api.types.is_numeric_dtype(values) or not np.isfinite(values).all():
            raise InputError(f"{name}: column {column!r} must hold finite numbers")
        return
    if not pd.api.types.is_integer_dtype(values):
        raise InputError(f"{name}: column {column!r} must hold integers, not {values.dtype}")
    most = 1 if head.kind == "labels" else head.num_classes - 1
    wrong = labels[(values < 0) | (values > most)]
    if len(wrong):
        row = wrong.iloc[0]
        raise InputError(f"{row['image_path']}: {column} is {row[column]}, outside 0-{most}; correct it")


def _control_character(text: str) -> bool:
    """Return whether a text holds a line break or the like, which submissions cannot carry."""
    return not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text)


def check_classes(competition: Competition) -> None:
    """Raise InputError if a class's text cannot be handed in."""
    for head in competition.heads:
        for text in head.classes:
            if _control_character(text):
                raise InputError(
                    f"{competition.name}: class {text!r} of {head.name} holds a control character; correct the labels"
                )


def check_answers(competition: Competition) -> None:
    """Raise InputError if the heads cannot be handed in as `answer` and `columns` say: now, not after the training."""
    name, heads, columns = competition.name, competition.heads, competition.submission_columns
    kinds, given = {head.kind for head in heads}, f"the submission's columns are {', '.join(columns[:6])}"
    several = len(heads) > 1
    if competition.answer == "probabilities":
        wanted = sum(head.num_classes for head in heads)
        if "number" in kinds:
            raise InputError(f"{name}: a number has no probabilities; leave answer='probabilities' out")
        if len(columns) - 1 != wanted and not (len(columns) == 2 == wanted):
            raise InputError(f"{name}: {given}, {len(columns) - 1} beside the id for {wanted} probabilities")
    elif competition.answer == "heads":
        if len(columns) != 1 + len(heads):
            raise InputError(f"{name}: {given}, {len(columns) - 1} beside the id for {len(heads)} heads")
    elif len(columns) != 2:
        raise InputError(
            f"{name}: {given}, but answer={competition.answer!r} is one column beside the id; give columns=(id, "
            "answer), or answer='heads' or 'probabilities'"
        )
    if len(columns) > 2:
        names, order = competition.answer_names, competition.column_order
        moved = [one for at, one in zip(order, columns[1:], strict=True) if one in names and names[at] != one]
        if moved:
            raise InputError(
                f"{name}: {given}; {moved[0]!r} is where {names[columns.index(moved[0]) - 1]!r} would be written, and "
                "columns are matched by name only if all have the names of what they hold; rename the heads or classes"
            )
    if competition.answer == "text" and several and kinds != {"class"}:
        raise InputError(f"{name}: {len(heads)} heads that are not all classes make no text; give answer='heads'")
    if competition.num_answers > 1 and (several or kinds != {"class"} or competition.answer != "text"):
        raise InputError(f"{name}: num_answers={competition.num_answers} is for one class an image, handed in as text")
    none, classes = competition.none_class, heads[0].classes
    if none and (several or none not in classes):
        raise InputError(f"{name}: none_class {none!r} is not a class; {nearest(none, classes)}")
    for head in heads:
        is_list = head.kind == "labels" or competition.num_answers > 1
        held = [text for text in head.classes if competition.separator in text]
        if competition.answer != "probabilities" and is_list and held:
            raise InputError(
                f"{name}: class {held[0]!r} holds the separator {competition.separator!r} of a list of answers; give "
                "another separator"
            )


def check_test(test: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Return image_path, id and, where several rows answer for an image, head (the name of one).

    Raises InputError if a column is missing, or an id cannot be handed in.
    """
    _check_table(test, f"{competition.name}: read_test")
    for column in ("image_path", "id"):
        if column not in test.columns:
            raise InputError(f"{competition.name}: read_test gives no column {column!r}")
        wrong = [value for value in test[column] if not isinstance(value, str)]
        if wrong:
            raise InputError(
                f"{competition.name}: read_test gives {column} {wrong[0]!r}, which is not text; use map(str)"
            )
    for text in test["id"]:
        if _control_character(text):
            raise InputError(f"{competition.name}: test id {text!r} holds a control character; correct it")
    columns = ["image_path", "id"]
    if competition.answer == "rows":
        columns.append("head")
        known = [head.name for head in competition.heads]
        if "head" not in test.columns or not test["head"].isin(known).all():
            raise InputError(f"{competition.name}: read_test must give a column 'head' of {', '.join(known)}")
    return test[columns]


def read_test(competition: Competition, files: InputFiles) -> pd.DataFrame:
    """Return what a competition's own reader says is answered, checked. Raises InputError."""
    with own_code(f"{competition.name}: read_test"):
        test = competition.read_test(files)
    return check_test(test, competition)


def check_unreadable(image_paths: list[str], total: int, most: float, hint: str) -> None:
    """Raise InputError if more than a share `most` of the `total` test images are these missing or unreadable ones."""
    if len(image_paths) > most * total:
        raise InputError(
            f"{len(image_paths):,} of {total:,} test images are missing or unreadable, such as {image_paths[0]}, and "
            f"would be answered from black images; {hint} (--max-unreadable {most:g} is the largest share allowed)"
        )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a competition's own reader returns, checked: rows sorted by image_path in labels, as submitted in test."""

    competition: Competition  # with the classes that the data names
    files: InputFiles
    labels: pd.DataFrame
    test: pd.DataFrame
    unlabelled: list[str]  # images in the training folders that no label names
    unlisted: list[str]  # images in the test folders that the submission does not ask for


def read_tables(config: Paths) -> Tables:
    """Read a competition's labels and test table from input/. Raises InputError."""
    competition = load_competition(config.competition)
    files = InputFiles(
        config.input_dir / competition.input_folder, competition.source, suffixes=competition.image_suffixes
    )
    competition = competition.with_heads_of(files)
    check_classes(competition)
    check_answers(competition)
    # Sorted: neither the cache nor a group's name may depend on the order in which the organiser lists images.
    with own_code(f"{competition.name}: read_train"):
        labels = competition.read_train(files)
    labels = check_labels(labels, competition).sort_values("image_path", ignore_index=True)
    files.locate(labels["image_path"])
    in_train = Texts.of(files.located)
    test = read_test(competition, files)
    files.locate(test["image_path"])
    named = Texts.of(chain(labels["image_path"], test["image_path"]))
    unlabelled, unlisted = _others(in_train, named), _others(Texts.of(files.located), named, in_train)
    return Tables(
        competition=competition,
        files=files,
        labels=labels,
        test=test,
        unlabelled=unlabelled,
        unlisted=unlisted,
    )


def _others(texts: Texts, *known: Texts) -> list[str]:
    """Return the texts, sorted, that are in none of the known ones."""
    new = np.ones(len(texts), bool)
    for others in known:
        new &= others.find(texts) < 0
    return sorted(texts[row] for row in np.flatnonzero(new).tolist())
