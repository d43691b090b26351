"""Suspected labels, skipped in training or given less weight: evaluate's suspects.csv, or any list."""

from pathlib import Path

import numpy as np

from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.texts import Texts


def suspected_rows(path: Path, image_paths: Texts) -> np.ndarray:
    """Return the rows, (S,) int64, of the images that a CSV names in its column image_path.

    Raises InputError if the file or the column is missing, and for an image that is unknown or there twice.
    """
    if not path.is_file():
        raise InputError(f"--suspects {path}: no such file")
    table = parse_csv(path.read_bytes(), str(path))
    if "image_path" not in table.columns:
        raise InputError(f"{path}, line 1: no column image_path; evaluate writes such a file, suspects.csv")
    rows = image_paths.find(table["image_path"])
    # evaluate puts an apostrophe before what a spreadsheet would read as a formula.
    rows = np.where(rows < 0, image_paths.find(table["image_path"].str.removeprefix("'")), rows)
    for wrong, what in ((rows < 0, "is not in labels.csv"), (table["image_path"].duplicated(), "appears twice")):
        if wrong.any():
            line = table.index[np.flatnonzero(wrong)[0]]
            raise InputError(f"{path}, line {line}: {table['image_path'][line]!r} {what}")
    return rows
