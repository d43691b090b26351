"""Soft labels: probabilities instead of one class, as of several annotators or of another model."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.csv_text import read_csv
from src.core.errors import InputError
from src.core.texts import Texts
from src.inference.answers import check_shares


def output_names(competition: Competition) -> list[list[str]]:
    """Return the CSV's columns of each head: its classes or labels, with several heads after the head's name."""
    prefix = "{head}:{text}" if len(competition.heads) > 1 else "{text}"
    return [
        [prefix.format(head=head.name, text=text) for text in head.classes] if head.classes else [head.name]
        for head in competition.heads
    ]


def soft_targets(
    path: Path, competition: Competition, image_paths: Texts, targets: np.ndarray, known: Texts | None = None
) -> np.ndarray:
    """Return (M, num_outputs) float32 of training images: the file's where it names the image, else its hard label.

    The file has a column image_path and one for each class; `known` are all images, also those held out. Raises
    InputError for other columns, values that are not probabilities, and images that are unknown or there twice.
    """
    table = read_csv("--soft-labels", path)
    names = output_names(competition)
    wanted = ["image_path", *(name for of_head in names for name in of_head)]
    if sorted(table.columns) != sorted(wanted):
        missing, extra = sorted(set(wanted) - set(table.columns)), sorted(set(table.columns) - set(wanted))
        what = f"no column {missing[0]!r}" if missing else f"an unknown column {extra[0]!r}"
        raise InputError(f"{path}, line 1: {what}; expected image_path and a column for each class")
    check_images(table["image_path"], image_paths if known is None else known, path)
    rows = image_paths.find(table["image_path"])
    soft = _hard(competition, targets)
    start = 0
    for head, columns, width in zip(competition.heads, names, competition.layout.widths, strict=True):
        values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if head.kind == "number":
            _check_numbers(values[:, 0], table[columns[0]], path)
        else:
            check_shares(values, table[columns], path, sum_to_1=head.kind in ("class", "ordinal"))
        if head.kind == "ordinal":  # of each grade but the last: that the answer is above it
            values = 1 - np.cumsum(values, axis=1)[:, :-1]
        soft[rows[rows >= 0], start : start + width] = values[rows >= 0]
        start += width
    print(f"soft labels: {int((rows >= 0).sum()):,} of {len(targets):,} training images have them in {path}")
    return soft


def check_images(names: "pd.Series[str]", known: Texts, path: Path) -> None:
    """Raise InputError, with the line, for an image that is unknown or there twice; names are indexed by lines."""
    for wrong, what in ((known.find(names) < 0, "is not in labels.csv"), (names.duplicated(), "appears twice")):
        if wrong.any():
            line = names.index[np.flatnonzero(wrong)[0]]
            raise InputError(f"{path}, line {line}: {names[line]!r} {what}; image_paths are such as {known[0]!r}")


def _check_numbers(values: np.ndarray, texts: "pd.Series[str]", path: Path) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"{path}, line {texts.index[wrong[0]]}: {texts.name} is {texts.iloc[wrong[0]]!r}, not a number"
        )


def _hard(competition: Competition, targets: np.ndarray) -> np.ndarray:
    """Return hard labels (M, num_targets) as probabilities (M, num_outputs)."""
    parts = []
    layout = competition.layout
    for kind, width, part in zip(layout.kinds, layout.widths, layout.split_targets(targets), strict=True):
        if kind == "class":
            parts.append(np.eye(width, dtype=np.float32)[part[:, 0].astype(np.int64)])
        else:
            parts.append((part > np.arange(width) if kind == "ordinal" else part).astype(np.float32))
    return np.concatenate(parts, axis=1)
