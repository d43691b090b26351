"""Snapshots: what prepare writes, complete, sealed and never changed afterwards.

runs/<competition>/prepared/<id>/ holds labels.csv, folds.csv, test.csv, problems.csv, with --relabel relabel.csv, and
snapshot.json; the id is the beginning of the seal of snapshot.json, which holds the hash of each table. The same
images, labels and flags give the same id. prepared/current.json names the newest. A run reads the snapshot that it
began with, whatever prepare does.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from src.competitions.spec import Head
from src.core.errors import InputError
from src.core.locking import temporary_of
from src.core.records import read_record, seal_of, write_record
from src.core.writing import sha256_of, write_csv
from src.data.cache import ImageCache

# Each table's columns, without the targets of labels.csv.
TABLES = {
    "labels.csv": ("image_path", "group"),
    "folds.csv": ("image_path", "fold"),
    "test.csv": ("image_path", "id"),
    "problems.csv": ("split", "image_path", "problem", "action", "detail"),
}
RELABEL_COLUMNS = ("image_path", "label", "before", "by", "when")  # of relabel.csv, which only some snapshots have
TEXT_COLUMNS = ("image_path", "id", "head", "answer", "boxes", "split", "problem", "action", "detail")
ID_LENGTH = 12
CHUNK = 1 << 14  # rows read at a time


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What prepare found out about the images of train or test."""

    pixels: str  # hash of their pixels and paths: names their caches
    num_images: int
    num_unreadable: int  # missing or unreadable, so skipped (train) or answered from a black image (test)


@dataclass(frozen=True, kw_only=True)
class Relabelled:
    """What --relabel did to the labels; relabel.csv of the snapshot has the rows."""

    num_changed: int
    num_confirmed: int  # images whose label was called right
    by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """snapshot.json: what the tables do not hold, and their hashes."""

    competition: str
    heads: tuple[Head, ...]
    flags: str  # of prepare, as on a command line
    tables: dict[str, str]  # file name: SHA-256
    train: SplitFacts
    test: SplitFacts
    relabelled: Annotated[Relabelled | None, Field(exclude_if=lambda value: value is None)] = None

    @property
    def id(self) -> str:
        return seal_of(self)[:ID_LENGTH]


@dataclass(frozen=True, kw_only=True)
class Current:
    """current.json: what the next run begins with."""

    snapshot: str
    image_size: tuple[int, int]  # of the cache made last


def facts_of(cache: ImageCache) -> SplitFacts:
    """Return what a cache says about its images."""
    bad = int((~cache.readings.readable).sum())
    return SplitFacts(pixels=cache.record.pixels, num_images=len(cache.readings), num_unreadable=bad)


def read_snapshot(folder: Path, repair: str) -> Snapshot:
    """Read and check snapshot.json. Raises InputError, naming the command `repair`."""
    path = folder / "snapshot.json"
    snapshot = read_record(path, Snapshot, f"run {repair} first", f"run {repair} again")
    if snapshot.id != folder.name:
        raise InputError(f"{path}: belongs to snapshot {snapshot.id}, not to {folder.name}; run {repair} again")
    return snapshot


def read_chunks(folder: Path, name: str, snapshot: Snapshot, repair: str) -> Iterator[pd.DataFrame]:
    """Yield a table of a snapshot, CHUNK rows at a time, as prepare wrote it: text stays text, class ids are integers.

    Raises InputError, naming the command `repair`, before the first row if it is missing or not what was written.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: not there; run {repair} again")
    with open(path, "rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != snapshot.tables.get(name):
            raise InputError(f"{path}: was changed after prepare wrote it (its SHA-256 differs); run {repair} again")
        # These are the very bytes that write_csv wrote, so pandas reads them; an organiser's file needs parse_csv.
        stream.seek(0)
        kinds = dict.fromkeys(pd.read_csv(stream, nrows=0).columns, "int64")
        kinds |= dict.fromkeys(TEXT_COLUMNS, "str") | {"fold": "Int64", "weight": "float64"}
        if name == "labels.csv":
            kinds |= {head.name: "float64" if head.kind == "number" else "int64" for head in snapshot.heads}
        if name == "relabel.csv":
            kinds = dict.fromkeys(RELABEL_COLUMNS, "str")
        stream.seek(0)
        yield from pd.read_csv(
            stream,
            dtype=kinds,
            keep_default_na=False,
            na_values={"fold": [""]},
            lineterminator="\n",
            chunksize=CHUNK,
        )


def read_table(folder: Path, name: str, snapshot: Snapshot, repair: str) -> pd.DataFrame:
    """Read a whole table of a snapshot. Raises InputError as `read_chunks` does."""
    return pd.concat(read_chunks(folder, name, snapshot, repair), ignore_index=True)


def is_intact(folder: Path) -> bool:
    """Return whether a snapshot is complete and as it was written."""
    try:
        snapshot = read_snapshot(folder, "")
        return all(sha256_of(folder / name) == digest for name, digest in snapshot.tables.items())
    except (InputError, OSError):
        return False


def publish(
    prepared: Path,
    tables: dict[str, pd.DataFrame],
    *,
    competition: str,
    heads: tuple[Head, ...],
    flags: str,
    train: SplitFacts,
    test: SplitFacts,
    relabelled: Relabelled | None = None,
) -> tuple[Snapshot, bool]:
    """Write a snapshot beside its place and move it there; return it and whether it is new.

    An undamaged one of the same id is kept as it is.
    """
    pending = temporary_of(prepared / "snapshot")
    try:
        for name, frame in tables.items():
            write_csv(pending / name, frame)
        hashes = {name: sha256_of(pending / name) for name in tables}
        snapshot = Snapshot(
            competition=competition, heads=heads, flags=flags, tables=hashes, train=train, test=test,
            relabelled=relabelled,
        )  # fmt: skip
        write_record(pending / "snapshot.json", snapshot)
        folder = prepared / snapshot.id
        if is_intact(folder):
            return snapshot, False
        replace_folder(pending, folder)
        return snapshot, True
    finally:
        shutil.rmtree(pending, ignore_errors=True)


def replace_folder(pending: Path, folder: Path) -> None:
    """Move a complete folder to its place; one that is there already is deleted afterwards."""
    _sync(pending)
    old = temporary_of(folder)
    if folder.exists():
        os.rename(folder, old)
    os.rename(pending, folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # not every file system can
    finally:
        os.close(descriptor)


def set_current(prepared: Path, snapshot: str, image_size: tuple[int, int]) -> None:
    """Make a snapshot the one that new runs begin with."""
    write_record(prepared / "current.json", Current(snapshot=snapshot, image_size=image_size))
