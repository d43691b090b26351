"""Labels of a CSV: from texts to class ids, 0 and 1 of labels, grades or numbers, with errors that name the line."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.competitions.columns import named_after
from src.competitions.layout import Kind
from src.competitions.spec import Head
from src.core.csv_text import check_columns, is_number
from src.core.errors import InputError, nearest

MAX_SPREAD = 1e-9  # a standard deviation below this is none


def in_order(texts: set[str]) -> tuple[str, ...]:
    """Return texts sorted: as numbers if all are, else as text."""
    return tuple(sorted(texts, key=lambda text: (float(text), text)) if are_numbers(texts) else sorted(texts))


def are_numbers(texts: set[str]) -> bool:
    """Return whether all texts are finite numbers: "nan" has no place in an order."""
    return all(map(is_number, texts))


@dataclass(frozen=True)
class Labels:
    """The label columns of a table of text, whose index is the line; checked when made, which may raise InputError."""

    table: pd.DataFrame
    source: str  # the file, for messages
    needed: list[str]  # columns that must be there
    columns: tuple[str, ...]  # those of the labels
    kind: Kind
    separator: str
    classes: tuple[str, ...]  # the known ones; default: all that occur

    def __post_init__(self) -> None:
        check_columns(self.table, self.needed, self.source)
        if len(self.table) == 0:
            raise InputError(f"{self.source}: has no rows")
        for column in (self.needed[0], *self.columns):
            texts = self.table[column]
            broken = self.table.index[texts.str.contains(r"[\x00-\x1f\x7f]", regex=True)]
            if len(broken):
                text = texts[broken[0]]
                raise InputError(
                    f"{self.source}, line {broken[0]}: {column} {text!r} holds a control character; correct it"
                )
        may_be_empty = self.kind == "labels" and len(self.columns) == 1  # an image may have no label
        for column in (self.needed[0], *(() if may_be_empty else self.columns)):
            blank = self.table.index[self.table[column].str.strip() == ""]
            if len(blank):
                raise InputError(
                    f"{self.source}, line {blank[0]}: no value in column {column!r}; fill or remove the row"
                )

    def heads(self, wanted: tuple[str, ...], sample: str, must_fit: bool = True) -> tuple[Head, ...]:
        """Return the heads; `wanted` are the answer columns of the sample submission, if they name the classes.

        If a label is not among them, that is an InputError if they `must_fit`; otherwise the labels are the classes.
        """
        if not must_fit and not self._occurring() <= set(wanted):
            wanted = ()
        if self.kind == "labels":
            given = self._given()
            classes = self._all(wanted, set(given.columns), sample)
            return (Head(name="labels", classes=classes, kind="labels", required=bool(given.any(axis=1).all())),)
        names = ("label",) if len(self.columns) == 1 else self.columns
        if self.kind == "number":
            numbers = [self._numbers(column) for column in self.columns]
            scales = [(float(one.mean()), max(float(one.std()), MAX_SPREAD)) for one in numbers]
            return tuple(Head(name=name, kind="number", scale=scale) for name, scale in zip(names, scales, strict=True))
        heads = []
        for name, column in zip(names, self.columns, strict=True):
            classes = self._all(wanted if len(names) == 1 else (), set(self.table[column]), sample, column)
            heads.append(Head(name=name, classes=classes, kind=self.kind))
        return tuple(heads)

    def _occurring(self) -> set[str]:
        """Return all labels that occur in the only label column, or the names of several."""
        if self.kind == "labels":
            return set(self._given().columns)
        return set(self.table[self.columns[0]]) if len(self.columns) == 1 else set(self.columns)

    def _all(self, wanted: tuple[str, ...], found: set[str], sample: str, column: str = "") -> tuple[str, ...]:
        """Return the classes in order, grades from the lowest up. Raises InputError for one that is not known."""
        known, where = (self.classes, "the competition's classes") if self.classes else (wanted, f"{sample}'s columns")
        if self.kind == "ordinal" and not self.classes and not are_numbers(found | set(wanted)):
            names = ", ".join(sorted(found)[:4])
            raise InputError(f"{self.source}: grades are texts ({names}); give classes=(lowest, ..., highest)")
        if self.kind == "ordinal" and not self.classes and len({float(text) for text in found}) < len(found):
            same = next(text for text in sorted(found) if sum(float(text) == float(other) for other in found) > 1)
            raise InputError(f"{self.source}: grade {same!r} is written in several ways; correct the labels")
        if not known:
            return in_order(found) if self.kind == "ordinal" else tuple(sorted(found))
        unknown = sorted(found - set(known))
        if unknown:
            line, text = self._first_line(set(unknown), column)
            hint = nearest(text, known)
            if not self.classes and named_after(wanted, sorted(found)):
                hint = f"they are named after the labels: give columns=(ID, {', '.join(map(repr, wanted))})"
            raise InputError(f"{self.source}{line}: label {text!r} is not one of {where}; {hint}")
        return in_order(set(known)) if self.kind == "ordinal" and not self.classes else known

    def _first_line(self, texts: set[str], column: str) -> tuple[str, str]:
        """Return where the first of these labels is, for a message, and which it is."""
        if not column and len(self.columns) > 1:
            return ", line 1", min(texts)
        for line, cell in self.table[column or self.columns[0]].items():
            for text in [cell] if column else self._tags(cell):
                if text in texts:
                    return f", line {line}", text
        raise AssertionError(texts)

    def targets(self, heads: tuple[Head, ...]) -> pd.DataFrame:
        """Return the target columns of these heads, in the table's order."""
        if self.kind == "labels":
            given = self._given()
            complete = given.reindex(columns=list(heads[0].classes), fill_value=0)
            return complete.set_axis(list(heads[0].targets), axis=1)
        if self.kind == "number":
            pairs = zip(heads, self.columns, strict=True)
            return pd.DataFrame({head.name: self._numbers(column) for head, column in pairs})
        found = {}
        for head, column in zip(heads, self.columns, strict=True):
            ids = {text: number for number, text in enumerate(head.classes)}
            found[head.name] = self.table[column].map(ids).to_numpy()
        return pd.DataFrame(found)

    def _given(self) -> pd.DataFrame:
        """Return (N, labels) of 0 and 1, a column for each label that occurs; True and False are 1 and 0."""
        if len(self.columns) == 1:
            tags = self.table[self.columns[0]].map(self._tags)
            names = sorted({tag for of_image in tags for tag in of_image})
            numbers = {tag: number for number, tag in enumerate(names)}
            given = np.zeros((len(tags), len(names)), np.int64)
            for row, of_image in enumerate(tags):
                given[row, [numbers[tag] for tag in of_image]] = 1
            return pd.DataFrame(given, index=self.table.index, columns=names)
        found = pd.DataFrame(index=self.table.index)
        for column in self.columns:
            texts = self.table[column]
            values = pd.to_numeric(texts.replace({"True": "1", "False": "0"}), errors="coerce")
            wrong = self.table.index[~np.isin(values, (0, 1))]
            if len(wrong):
                text = texts[wrong[0]]
                raise InputError(f"{self.source}, line {wrong[0]}: {column} is {text!r}, neither 0 nor 1; correct it")
            found[column] = values.astype(np.int64)
        return found

    def _tags(self, cell: str) -> list[str]:
        """Return the labels in one cell, stripped of spaces; empty ones are skipped."""
        parts = cell.split(self.separator if self.separator.strip() else None)
        return [tag for tag in (part.strip() for part in parts) if tag]

    def _numbers(self, column: str) -> np.ndarray:
        numbers = pd.to_numeric(self.table[column], errors="coerce").to_numpy(np.float64)
        wrong = self.table.index[~np.isfinite(numbers)]
        if len(wrong):
            text = self.table[column][wrong[0]]
            raise InputError(f"{self.source}, line {wrong[0]}: {column} {text!r} is not a number; correct it")
        return numbers
