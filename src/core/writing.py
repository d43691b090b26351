"""Writing what must not be lost: a file is whole under its name, or it is not there."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.core.errors import InputError


def _sweep(folder: Path) -> None:
    """Remove what processes that are no more left half written."""
    for left in folder.glob(".*.tmp"):
        number = left.name.split(".")[-2]
        alive = number != str(os.getpid())  # in containers each has the same number
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            alive = False
        except (ValueError, PermissionError):
            continue
        if not alive:
            left.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a lock file beside a folder, which the system frees however the process ends; remove what a killed process
    left half written in the folder. Raises InputError if another has the lock.
    """
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = open(path, "a+")  # noqa: SIM115
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield  # nothing can be written here, by this command or by another
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise InputError(f"{path.parent}: process {stream.read().strip() or '?'} {what}; wait for it") from error
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
            print(f"note: {path.parent} lies on a file system without locks: start no second command for the same run")
        else:
            _sweep(folder)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success flush it to disk and give it the name, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:  # as of a full disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as UTF-8 CSV without its index."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as .npz (text as fixed-width unicode, so that no pickle is needed to read it)."""
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sums_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_with_checksum(path: Path, content: bytes | memoryview, previous: Path | None = None) -> None:
    """Write bytes and keep their SHA-256 beside them as <name>.sha256; move a sound old file to `previous`.

    The new sum is written first and the previous one stays as a second line, so that a kill between the two files
    leaves a file that one of the lines vouches for.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        sums = _sums_of(path)
        lines = sums.read_text(errors="replace").splitlines() if sums.exists() and path.exists() else []
        standing = sha256_of(path) if lines else ""
        sound = [line for line in lines if line.startswith(standing)][:1]
        write_text(sums, "\n".join([f"{sha256_of(temporary)}  {path.name}", *sound]) + "\n")
        if previous and sound:
            write_text(_sums_of(previous), sound[0] + "\n")
            os.replace(path, previous)


def checksum_fits(path: Path) -> bool:
    """Return whether a file written by `write_with_checksum` still has the bytes that were written."""
    sums = _sums_of(path)
    return sums.exists() and sha256_of(path) in {
        line.split(" ")[0] for line in sums.read_text(errors="replace").splitlines()
    }
