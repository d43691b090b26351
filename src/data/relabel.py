"""Corrections of labels: relabel.csv, which people write with the report, and what prepare makes of it.

A row says of one training image what its label is, who says so and when: image_path, label, by, when. A label is
written as a submission writes it; of several heads as "vowel=3;root=12", where heads that are not named keep theirs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from src.competitions.spec import Competition, Head
from src.core.csv_text import check_columns, read_csv
from src.core.errors import InputError, nearest
from src.data.labels import Tables, check_labels
from src.data.snapshot import RELABEL_COLUMNS, Relabelled

COLUMNS = ("image_path", "label", "by", "when")
MAX_NAMED = 5  # people named in a line


class _Impossible(ValueError):
    """A text that is no label; says why."""


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Rows of relabel.csv, checked: a row per image."""

    table: pd.DataFrame  # RELABEL_COLUMNS: image_path, label, before, by, when; in the order of image_path
    record: Relabelled
    paths: frozenset[str]  # of all images whose label is told, also those that are answered together with a row's

    def describe(self, files: Sequence[Path]) -> str:
        """Return a line for people."""
        names = [name or "someone" for name in self.record.by]
        more = f" and {len(names) - MAX_NAMED} others" if len(names) > MAX_NAMED else ""
        return (
            f"relabelled: {self.record.num_changed:,} labels changed, {self.record.num_confirmed:,} confirmed by "
            f"{', '.join(names[:MAX_NAMED])}{more} ({', '.join(map(str, files))})"
        )


def label_text(values: Sequence[Any], competition: Competition) -> str:
    """Return a label as relabel.csv writes it, from one value per target."""
    if competition.is_string or len(competition.heads) == 1:
        return competition.decode(values)
    return ";".join(
        f"{head.name}={competition.head_text(head, values[start : start + len(head.targets)])}"
        for head, start in zip(competition.heads, competition.layout.target_starts, strict=True)
    )


def relabelled(tables: Tables, files: Sequence[Path]) -> tuple[Tables, Corrections | None]:
    """Return the tables with the labels that the files correct, and the corrections; None without files.

    Raises InputError, with file and line, for an unknown image, an impossible label, or different labels of one image.
    """
    if not files:
        return tables, None
    competition, labels = tables.competition, tables.labels
    rows = pd.Series(range(len(labels)), index=labels["image_path"])
    together = _answered_together(labels)
    targets = labels[competition.targets].to_numpy()  # float64 if an answer is a number
    given: dict[int, tuple[list[Any], str]] = {}  # row of the label table: its values, and where that is said
    said: dict[str, dict[str, str]] = {}
    for where, row in _rows(files):
        path = row["image_path"]
        if path not in rows.index:
            raise InputError(f"{where}: no labelled image is called {path!r}; {_nearest(path, labels['image_path'])}")
        old = targets[rows[path]].tolist()
        before = label_text(old, competition)
        values = old if row["label"] == before else _values(row["label"], competition, old, where)
        for other in together.get(rows[path], [rows[path]]):
            known = given.setdefault(other, (values, where))
            if known[0] != values:
                raise InputError(
                    f"{where}: {path!r} is labelled {row['label']!r}, but differently in {known[1]}; remove one row"
                )
        said[path] = {**row, "before": before}
    changed, new = 0, targets.copy()
    for number, (values, _) in given.items():
        changed += values != targets[number].tolist()
        new[number] = values
    for column, name in enumerate(competition.targets):
        labels = labels.assign(**{name: pd.Series(new[:, column], index=labels.index).astype(labels[name].dtype)})
    table = pd.DataFrame([said[path] for path in sorted(said)], columns=list(RELABEL_COLUMNS))
    people = tuple(sorted({row["by"] for row in said.values()}))
    record = Relabelled(num_changed=changed, num_confirmed=len(given) - changed, by=people)
    corrections = Corrections(table=table, record=record, paths=frozenset(labels["image_path"].iloc[list(given)]))
    return replace(tables, labels=check_labels(labels, competition)), corrections


def _rows(files: Sequence[Path]) -> list[tuple[str, dict[str, str]]]:
    """Return each row of the files and where it stands. Raises InputError if a file or a column is missing."""
    found = []
    for file in files:
        table = read_csv("--relabel", file, "; the report writes one (relabel.csv)")
        check_columns(table, COLUMNS, str(file))
        found += [
            (f"{file}, line {line}", dict(zip(COLUMNS, map(str.strip, row), strict=True)))
            for line, row in zip(table.index, table[list(COLUMNS)].to_numpy().tolist(), strict=True)
        ]
    return found


def _answered_together(labels: pd.DataFrame) -> dict[int, list[int]]:
    """Return the rows that have one answer, and so one label, by each of them."""
    if "answer" not in labels.columns:
        return {}
    numbers = pd.factorize(labels["answer"])[0].tolist()
    rows_of: dict[int, list[int]] = {}
    for row, number in enumerate(numbers):
        rows_of.setdefault(number, []).append(row)
    return {row: rows_of[number] for row, number in enumerate(numbers)}


def _nearest(path: str, known: "pd.Series[str]") -> str:
    name = path.rpartition("/")[2]
    same = known[known.str.endswith(f"/{name}")]
    return f"did you mean {same.iloc[0]!r}?" if len(same) else f"they are called like {known.iloc[0]!r}"


def _values(text: str, competition: Competition, old: list[Any], where: str) -> list[Any]:
    """Return one value per target. Raises InputError for a text that cannot be a label."""
    try:
        if competition.is_string:
            return _string(text, competition)
        if len(competition.heads) == 1:
            return _head(text, competition.heads[0], competition)
        return _several(text, competition, old)
    except _Impossible as error:
        raise InputError(f"{where}: {text!r} cannot be a label: {error}; correct it") from error


def _head(text: str, head: Head, competition: Competition) -> list[Any]:
    if head.kind == "number":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _Impossible("a number is expected")
        return [number]
    if head.kind == "labels":
        parts = [part.strip() for part in text.split(competition.separator if competition.separator.strip() else None)]
        for part in filter(None, parts):
            if part not in head.classes:
                raise _Impossible(f"{part!r} is no label; {nearest(part, head.classes[:20])}")
        if head.required and not any(parts):
            raise _Impossible("every image has at least one label")
        return [int(name in parts) for name in head.classes]
    if text in head.classes:
        return [head.classes.index(text)]
    if text in competition.class_names and len(competition.heads) == 1:
        return [competition.class_names.index(text)]
    raise _Impossible(f"it is no class; {nearest(text, competition.class_names or head.classes[:20])}")


def _string(text: str, competition: Competition) -> list[int]:
    """Return a class id for each position of a string, padded."""
    classes, pad, positions = competition.heads[0].classes, competition.pad_class, len(competition.heads)
    characters = {name: number for number, name in enumerate(classes) if name and number != pad}
    ids, rest = [], text
    while rest:
        fits = [name for name in characters if rest.startswith(name)]
        if not fits:
            raise _Impossible(f"{rest[0]!r} is not one of {' '.join(characters)}")
        longest = max(fits, key=len)
        ids.append(characters[longest])
        rest = rest[len(longest) :]
    if not ids or len(ids) > positions or (pad is None and len(ids) != positions):
        raise _Impossible(f"it has {len(ids)} characters, expected {positions if pad is None else f'1 to {positions}'}")
    return ids if pad is None else ids + [pad] * (positions - len(ids))


def _several(text: str, competition: Competition, old: list[Any]) -> list[Any]:
    """Return the values of several heads, of those that are not named the old ones."""
    given = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in [head.name for head in competition.heads]:
            names = ";".join(f"{head.name}=..." for head in competition.heads)
            raise _Impossible(f"{part!r} names no head; it is written {names}")
        given[name.strip()] = value.strip()
    values = list(old)
    for head, start in zip(competition.heads, competition.layout.target_starts, strict=True):
        if head.name in given:
            values[start : start + len(head.targets)] = _head(given[head.name], head, competition)
    return values
