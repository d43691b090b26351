"""Folders of label tables, and how prepare reads them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.competitions.spec import Competition
from src.competitions.tables import csv_competition
from src.core.reading import InputFiles
from src.data.labels import check_answers, check_labels, check_test


def write(path: Path, *lines: str) -> None:
    """Write lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def images(folder: Path, *names: str) -> None:
    """Write files that are called like images: nothing here looks inside."""
    for name in names:
        write(folder / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with train/1.png to 4.png, test/8.png and 9.png, and a sample submission."""
    images(tmp_path / "train", *"1234")
    images(tmp_path / "test", *"89")
    write(tmp_path / "sample_submission.csv", "id,label", "9,a", "8,a")
    return tmp_path


def read(competition: Competition, folder: Path) -> tuple[Competition, pd.DataFrame, pd.DataFrame]:
    """Return the competition with its heads, the label table and the test table, as prepare reads them."""
    files = InputFiles(folder, "")
    found = competition.with_heads_of(files)
    check_answers(found)
    return found, check_labels(found.read_train(files), found), check_test(found.read_test(files), found)


def leaves(**options: Any) -> Competition:
    """Return a competition of a CSV."""
    fields: dict[str, Any] = {"name": "leaves", "id_column": "id", "label_column": "label", **options}
    return csv_competition(**fields)
