"""Suspected labels, skipped in training or given less weight: evaluate's suspects.csv, or any list."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from src.core.csv_text import read_csv
from src.core.errors import InputError
from src.core.texts import Texts
from src.training.soft_labels import check_images


def suspected_rows(path: Path, image_paths: Texts) -> np.ndarray:
    """Return the rows, (S,) int64, of the images that a CSV names in its column image_path.

    Raises InputError if the file or the column is missing, and for an image that is unknown or there twice.
    """
    table = read_csv("--suspects", path)
    if "image_path" not in table.columns:
        raise InputError(f"{path}, line 1: no column image_path; evaluate writes such a file, suspects.csv")
    names = table["image_path"]
    # evaluate puts an apostrophe before what a spreadsheet would read as a formula.
    names = names.where(image_paths.find(names) >= 0, names.str.removeprefix("'"))
    check_images(names, image_paths, path)
    return image_paths.find(names)


def answered_together(rows: np.ndarray, image_paths: Texts, labels: Iterable[pd.DataFrame]) -> np.ndarray:
    """Return the rows of the images that have an answer in common with those at `rows`, these included.

    labels are parts of labels.csv; evaluate names one image of each answer, and its label is that of all of them.
    """
    parts = [part[["image_path", "answer"]] for part in labels if "answer" in part.columns]
    if not parts:
        return rows
    table = pd.concat(parts)
    of_row = image_paths.find(table["image_path"])
    return of_row[table["answer"].isin(table["answer"][np.isin(of_row, rows)]).to_numpy()]
