"""Atomic writes and checksums: a file is complete under its name, or not there."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.core.locking import temporary_of


@contextmanager
def replacing(path: Path, to_disk: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success fsync it and rename it to `path`, otherwise delete it.

    Without `to_disk` a power failure may leave a damaged file: for what is checked when read and can be had again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    try:
        yield temporary
        if to_disk:
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:  # for example a full disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8 with Unix line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as indented JSON. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame, for_people: bool = False) -> None:
    """Write a frame as UTF-8 CSV, without the index.

    `for_people` opens it in a spreadsheet without harm: a text that would be a formula there gets an apostrophe.
    """
    if for_people:
        frame = frame.rename(columns=_no_formula).map(_no_formula)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def _no_formula(value: Any) -> Any:
    """Return a text that a spreadsheet does not run; numbers stay as they are."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as .npz (text as fixed-width unicode, so that reading needs no pickle)."""
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_with_checksum(path: Path, content: bytes | memoryview, previous: Path | None = None) -> None:
    """Write bytes and their SHA-256 to <name>.sha256; move the old file to `previous` if its checksum matches.

    The new checksum is written first and the old one stays as a second line, so that after a kill between the two
    writes the file still matches one of the lines.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        sums = _checksum_path(path)
        lines = sums.read_text(errors="replace").splitlines() if sums.exists() and path.exists() else []
        current = sha256_of(path) if lines else ""
        valid = [line for line in lines if line.startswith(current)][:1]
        write_text(sums, "\n".join([f"{hashlib.sha256(content).hexdigest()}  {path.name}", *valid]) + "\n")
        if previous and valid:
            write_text(_checksum_path(previous), valid[0] + "\n")
            os.replace(path, previous)


def checksum_fits(path: Path) -> bool:
    """Return whether a file written by `write_with_checksum` still matches its checksum."""
    sums = _checksum_path(path)
    return sums.exists() and sha256_of(path) in {
        line.split(" ")[0] for line in sums.read_text(errors="replace").splitlines()
    }
