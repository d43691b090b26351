"""CSV files as text: nothing is converted, and every error names its line."""

import csv
import io

import pandas as pd

from src.core.errors import InputError


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, with or without BOM. Raises InputError with the line if it is not."""
    try:
        return data.decode("utf-8-sig")
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
    text = decoded(data, name)
    if "\0" in text:
        raise InputError(f"{name}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: NUL byte; download it again")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        header = next(reader, [])
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{name}, line {reader.line_num}: {len(row)} cells where the header has {len(header)}; "
                    "is the file cut off, or a comma not quoted?"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}; is the file cut off?") from error
    if not header or not any(header):
        raise InputError(f"{name}: empty, a header line is expected")
    repeated = {column for column in header if header.count(column) > 1}
    if repeated:
        raise InputError(f"{name}, line 1: column {sorted(repeated)[0]!r} is there twice")
    return pd.DataFrame(rows, columns=header, index=lines, dtype=str)
