"""CSV files as text: nothing is converted, and every error names its line."""

import codecs
import csv
import io
import math
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.core.errors import InputError

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that others write instead of commas
MAX_SEEN = 10_000  # different texts that are shared
csv.field_size_limit(1 << 30)  # masks and pixels as text; a file's size is limited elsewhere


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, with or without BOM. Raises InputError with the line if it is not."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line}: byte {data[error.start]:#04x} is not UTF-8; save it as UTF-8"
        ) from error


def parse_csv(data: bytes, name: str) -> pd.DataFrame:
    """Parse CSV bytes as text, without any conversion: "000123", "NA" and "1e5" stay as they are.

    Returns a frame of str whose index is the line number in the file. Raises InputError with the line for a row with
    too many or too few cells, an open quote, a NUL, a repeated column, or no header.
    """
    decoded(data, name)
    if b"\0" in data:
        raise InputError(f"{name}, line {data[: data.index(0)].count(10) + 1}: NUL byte; download it again")
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), strict=True)
    columns: list[list[str]] = []
    lines = array("q")
    seen: dict[str, str] = {}  # labels are the same few texts: one object for each
    try:
        header = next(reader, [])
        columns = [[] for _ in header]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{name}, line {reader.line_num}: {len(row)} cells where the header has {len(header)}; "
                    "is the file cut off, or a comma not quoted?"
                )
            for column, cell in zip(columns, row, strict=True):
                same = seen.setdefault if len(seen) < MAX_SEEN else seen.get
                column.append(same(cell, cell))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}; is the file cut off?") from error
    if not header or not any(header):
        raise InputError(f"{name}: empty, a header line is expected")
    repeated = {column for column in header if header.count(column) > 1}
    if repeated:
        raise InputError(f"{name}, line 1: column {sorted(repeated)[0]!r} appears twice")
    return pd.DataFrame(dict(zip(header, columns, strict=True)), index=np.array(lines, np.int64), dtype=str)


def read_csv(flag: str, path: Path, hint: str = "") -> pd.DataFrame:
    """Return the CSV that a flag names, as parse_csv does. Raises InputError, also for a missing file."""
    if not path.is_file():
        raise InputError(f"{flag} {path}: no such file{hint}")
    return parse_csv(path.read_bytes(), str(path))


def check_columns(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Raise InputError for the first column that the table does not have."""
    for column in columns:
        if column not in table.columns:
            only = table.columns[0] if len(table.columns) == 1 else ""
            found = next((name for mark, name in SEPARATORS.items() if mark in only), "")
            hint = f"; its cells are separated by {found}, save it with commas" if found else ""
            raise InputError(f"{source}, line 1: no column {column!r}; it has {', '.join(table.columns)}{hint}")


def is_number(text: str) -> bool:
    """Return whether a cell holds a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
