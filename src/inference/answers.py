"""From predictions of images to the submission's table, and the check that the organiser will accept it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from src.competitions.decision import Rule, class_probabilities, decide
from src.competitions.spec import Competition, Head
from src.core.csv_text import is_number, parse_csv
from src.core.errors import InputError
from src.inference.testset import TestSet
from src.metrics import ranked

T = TypeVar("T")
SUM_TOLERANCE = 1e-3  # of probabilities that must sum to one


def joined(predicted: np.ndarray, test: TestSet, competition: Competition) -> np.ndarray:
    """Return (number of ids, num_outputs) from predictions of `test.image_paths`: those of an id count as one."""
    rows = pd.Index(test.image_paths).get_indexer(pd.Index(test.table["image_path"]))
    answers = pd.factorize(test.table["id"])[0]
    return predicted[rows] if len(test.ids) == len(rows) else combined(predicted[rows], answers, competition)


def combined(predicted: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    """Return the mean or maximum of the predictions of each answer; answers (N,) are numbers from 0 without gaps.

    The maximum of class probabilities is divided by its sum, so that they are probabilities again.
    """
    count = int(answers.max()) + 1
    if competition.combine == "mean":
        total = np.zeros((count, predicted.shape[1]))
        np.add.at(total, answers, predicted)
        return (total / np.bincount(answers)[:, None]).astype(np.float32)
    most = np.full((count, predicted.shape[1]), -np.inf, np.float32)
    np.maximum.at(most, answers, predicted)
    parts = [
        part / part.sum(axis=1, keepdims=True) if head.kind == "class" else part
        for head, part in zip(competition.heads, competition.layout.split(most), strict=True)
    ]
    return np.concatenate(parts, axis=1)


def answers_table(predicted: np.ndarray, test: TestSet, competition: Competition, rule: Rule) -> pd.DataFrame:
    """Return the submission: the ids in order, and what it asks for of each; predicted as of `test.image_paths`."""
    values, columns = joined(predicted, test, competition), competition.submission_columns
    ids = {columns[0]: test.ids.to_numpy()}
    if competition.answer == "probabilities":
        return pd.DataFrame(ids | dict(zip(columns[1:], _probability_texts(values, competition), strict=True)))
    decided = decide(values, competition, rule)
    if competition.answer == "text":
        return pd.DataFrame(ids | {columns[1]: texts_of(values, decided, competition, rule)})
    of_heads = dict(zip([head.name for head in competition.heads], _head_texts(decided, competition), strict=True))
    if competition.answer == "heads":
        return pd.DataFrame(ids | dict(zip(columns[1:], in_columns(list(of_heads.values()), competition), strict=True)))
    heads = test.table.drop_duplicates("id")["head"]
    return pd.DataFrame(ids | {columns[1]: [of_heads[head][row] for row, head in enumerate(heads)]})


def in_columns(of_heads: Sequence[T], competition: Competition) -> list[T]:
    """Return what there is of each head in the order of the submission's columns."""
    return [of_heads[head] for head in competition.column_order]


def _probability_texts(values: np.ndarray, competition: Competition) -> list[list[str]]:
    """Return the texts of each answer column, as `probabilities_for` says which outputs they are."""
    return [[f"{value:.7g}" for value in column] for column in probabilities_for(values, competition).T.tolist()]


def probabilities_for(values: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N, answer columns): every class's probability, or that of one of two classes if there is one column."""
    parts = zip(competition.heads, competition.layout.split(values), strict=True)
    shares = np.concatenate([class_probabilities(part, head) for head, part in parts], axis=1)
    return shares[:, competition.column_order]


def texts_of(values: np.ndarray, decided: np.ndarray, competition: Competition, rule: Rule) -> list[str]:
    """Return each image's answer in one text, from its predictions and what was decided from them."""
    if competition.num_answers == 1:
        return [competition.decode(row) for row in decided.tolist()]
    head = competition.heads[0]
    ids = ranked(values, head, competition.num_answers, rule, competition.none_class)
    return [competition.separator.join(head.classes[one] for one in row) for row in ids.tolist()]


def _head_texts(decided: np.ndarray, competition: Competition) -> list[list[str]]:
    parts = zip(competition.heads, competition.layout.split_targets(decided), strict=True)
    return [[competition.head_text(head, row) for row in part.tolist()] for head, part in parts]


def validate(path: Path, test: TestSet, competition: Competition) -> None:
    """Check a submission against the sample submission's ids and what the competition asks for.

    Raises InputError for another header, missing, extra, repeated or reordered ids, empty answers, and answers that no
    class, label or number spells.
    """
    table, columns = parse_csv(path.read_bytes(), str(path)), competition.submission_columns
    if tuple(table.columns) != columns:
        raise InputError(f"{path}, line 1: the header is {','.join(table.columns)}, expected {','.join(columns)}")
    found, expected = table[columns[0]].tolist(), test.ids.tolist()
    if len(found) != len(expected):
        raise InputError(f"{path}: {len(found)} answers, the sample submission has {len(expected)}")
    for line, one, other in zip(table.index, found, expected, strict=True):
        if one != other:
            raise InputError(f"{path}, line {line}: id {one!r} where the sample submission has {other!r}")
    if competition.answer == "probabilities":
        _check_probabilities(table, path, competition)
    elif competition.answer == "text":
        _check_texts(table[columns[1]], path, competition)
    elif competition.answer == "heads":
        for head, column in zip(in_columns(competition.heads, competition), columns[1:], strict=True):
            _check_head(table[column], path, head, competition)
    else:
        names = test.table.drop_duplicates("id")["head"].to_numpy()
        for head in competition.heads:
            _check_head(table[columns[1]][names == head.name], path, head, competition)


def _check_probabilities(table: pd.DataFrame, path: Path, competition: Competition) -> None:
    columns = list(competition.submission_columns[1:])
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    one_head = [head.kind for head in competition.heads] in (["class"], ["ordinal"])
    check_shares(numbers, table[columns], path, sum_to_1=one_head and len(columns) > 1)


def check_shares(numbers: np.ndarray, texts: pd.DataFrame, path: Path, sum_to_1: bool) -> None:
    """Raise InputError, naming the line, for a value that is not a probability.

    numbers (N, columns) are the cells of `texts` as numbers, NaN for a cell that is not one.
    """
    wrong = ~((numbers >= 0) & (numbers <= 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        value = texts.iloc[row, column]
        raise InputError(
            f"{path}, line {texts.index[row]}: {texts.columns[column]} is {value!r}, not a probability of 0 to 1"
        )
    off = np.abs(numbers.sum(axis=1) - 1)
    if sum_to_1 and (off > SUM_TOLERANCE).any():
        row = int(off.argmax())
        raise InputError(f"{path}, line {texts.index[row]}: the probabilities sum to {numbers[row].sum():.6g}, not 1")


def _check_texts(answers: "pd.Series[str]", path: Path, competition: Competition) -> None:
    """Raise InputError for an answer that is empty (unless an image may have no label) or is not made of classes."""
    heads = competition.heads
    if len(heads) == 1 and (heads[0].kind != "class" or competition.num_answers > 1):
        _check_head(answers, path, heads[0], competition)
        return
    legal = legal_answer(competition)
    for line, answer in answers.items():
        if not answer:
            raise InputError(f"{path}, line {line}: the answer is empty")
        if not legal.fullmatch(answer):
            raise InputError(f"{path}, line {line}: answer {answer!r} is not made of {competition.name}'s classes")


def _check_head(answers: "pd.Series[str]", path: Path, head: Head, competition: Competition) -> None:
    known, wanted = set(head.classes), competition.num_answers
    for line, answer in answers.items():
        if head.kind == "number":
            legal = is_number(answer)
        elif head.kind == "labels":
            given = answer.split(competition.separator) if answer else []
            legal = set(given) <= known and len(set(given)) == len(given) and (bool(given) or not head.required)
        elif wanted > 1:
            given = answer.split(competition.separator)
            legal = set(given) <= known and len(set(given)) == len(given) == min(wanted, len(known))
        else:
            legal = answer in known
        if not legal:
            raise InputError(f"{path}, line {line}: answer {answer!r} is not one that {head.name} can have")


def legal_answer(competition: Competition) -> re.Pattern[str]:
    """Return the pattern of all answers: one class per head, or with a pad class the first one or more heads only."""
    pattern = ""
    for head in reversed(competition.heads):
        texts = "|".join(re.escape(text) for text in head.classes if text)
        rest = f"(?:{pattern})?" if pattern and competition.pad_class is not None else pattern
        pattern = f"(?:{texts}){rest}"
    return re.compile(pattern, re.DOTALL)
