"""What prepare wrote for a competition, opened: its classes, its tables, its image caches."""

import os
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from src.competitions.spec import Competition, Head, load_competition
from src.config import Paths, PrepareConfig
from src.core.errors import InputError
from src.core.flags import flags_of
from src.core.reading import parse_csv
from src.core.records import read_record
from src.data.cache import ImageCache, build_cache, cache_name, open_cache
from src.data.labels import Tables

# Flags of prepare that decide what it writes, so a command that is to do the same again needs them.
TABLE_COLUMNS = {
    "labels.csv": ("image_path", "group"),
    "folds.csv": ("image_path", "fold"),
    "test.csv": ("image_path", "id"),
}
PREPARE_FLAGS = ("split", "num_folds", "num_val", "folds", "seed", "max_unreadable", "max_pixels")


def command(config: Paths, name: str, flags: str = "") -> str:
    """Return the command line of another command for the same competition and folders."""
    folders = flags_of(config, "input_dir", "runs_dir")
    return f"python -m src.{name} --competition {shlex.quote(config.competition)}{folders}{flags}"


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What prepare found out about the images of train or test."""

    files: str  # hash of what was read: a cache of any size must be made from the same
    num_images: int
    num_unreadable: int  # missing or unreadable, so skipped (train) or answered from a black image (test)


@dataclass(frozen=True, kw_only=True)
class PreparedFacts:
    """competition.json: what the tables do not hold."""

    heads: tuple[Head, ...]
    image_size: tuple[int, int]  # of the cache made last
    flags: str  # of prepare, as on a command line
    train: SplitFacts
    test: SplitFacts


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One competition as prepare left it in runs/<competition>/prepared/ and cache/."""

    config: Paths  # the current command's --competition and folders
    competition: Competition  # with the classes that prepare found
    facts: PreparedFacts

    @property
    def root(self) -> Path:
        """runs/<competition>: holds prepared/, cache/ and the runs."""
        return self.config.runs_dir / self.competition.name

    @property
    def folder(self) -> Path:
        return self.root / "prepared"

    @property
    def labels_file(self) -> Path:
        return self.folder / "labels.csv"

    @property
    def folds_file(self) -> Path:
        return self.folder / "folds.csv"

    @property
    def test_file(self) -> Path:
        return self.folder / "test.csv"

    @cached_property
    def labels(self) -> pd.DataFrame:
        return read_table(self.labels_file, self.command())

    @cached_property
    def folds(self) -> pd.DataFrame:
        return read_table(self.folds_file, self.command())

    @cached_property
    def test(self) -> pd.DataFrame:
        return read_table(self.test_file, self.command())

    def command(self, name: str = "prepare", size: tuple[int, int] | None = None) -> str:
        """Return a command line for this competition; prepare's carries the flags it was run with."""
        flags = self.facts.flags if name == "prepare" else ""
        return command(self.config, name, flags + (f" --image-size {size[0]} {size[1]}" if size else ""))

    def cache_facts(self, split: str, size: tuple[int, int]) -> Path:
        """The JSON of a cache; it holds the hash of the pixels, so its bytes identify them."""
        return self.root / "cache" / f"{cache_name(split, size)}.json"

    def cache(self, split: str, size: tuple[int, int] | None = None) -> ImageCache:
        """Open the cache of train or test images, of the size made last unless another is given.

        Raises InputError, with the command that makes it, if it is missing, damaged, or made from other files.
        """
        size = size or self.facts.image_size
        cache = open_cache(self.root / "cache", cache_name(split, size), self.command(size=size))
        if cache.files != getattr(self.facts, split).files:
            raise InputError(
                f"{self.cache_facts(split, size)}: was made from other {split} images than labels and test table; "
                f"run {self.command(size=size)}"
            )
        return cache

    def fold_numbers(self, text: str) -> list[int]:
        """Return the folds that --fold asks for. Raises InputError naming the existing ones."""
        known = sorted(int(number) for number in self.folds["fold"].dropna().unique())
        if text == "all":
            return known
        if not text.isdecimal() or int(text) not in known:
            raise InputError(f"--fold {text}: folds.csv has {', '.join(map(str, known))}; give one of them, or all")
        return [int(text)]

    def unreadable_note(self) -> str:
        """Return a line about test images that could not be read, or nothing."""
        if not self.facts.test.num_unreadable:
            return ""
        return (
            f"note: {self.facts.test.num_unreadable:,} of {self.facts.test.num_images:,} test images are missing or "
            f"unreadable and answered from a black image; see {self.folder / 'problems.csv'}"
        )


def open_prepared(config: Paths) -> Prepared:
    """Open what prepare wrote for --competition. Raises InputError, with the command to run, if it has not yet."""
    competition = load_competition(config.competition)
    path = config.runs_dir / competition.name / "prepared" / "competition.json"
    run = f"run {command(config, 'prepare')}"
    facts = read_record(path, PreparedFacts, f"{run} first", f"{run} again")
    return Prepared(config=config, competition=replace(competition, heads=facts.heads), facts=facts)


def known_competition(config: Paths, or_else: str | None) -> Competition:
    """Return a competition with its classes: its own, or those that prepare found in the data.

    Raises InputError, suggesting prepare or `or_else`, if neither is known; without `or_else` it may stay unknown.
    """
    competition = load_competition(config.competition)
    if competition.heads:
        return competition
    if (config.runs_dir / competition.name / "prepared" / "competition.json").exists() or or_else is None:
        return open_prepared(config).competition if or_else is not None else competition
    raise InputError(
        f"{config.competition}: its classes are only known from its data; run {command(config, 'prepare')} first, or "
        f"{or_else}"
    )


def build_caches(
    config: PrepareConfig, tables: Tables, folder: Path, size: tuple[int, int]
) -> tuple[ImageCache, ImageCache]:
    """Decode the train and test images at (height, width) unless that is done already; return both caches."""
    caches = []
    for split, table in (("train", tables.labels), ("test", tables.test)):
        paths, name = table["image_path"].tolist(), cache_name(split, size)
        processes = config.num_processes or os.cpu_count() or 1
        built = build_cache(
            folder, name, paths, tables.files, size, num_processes=processes, max_pixels=config.max_pixels
        )
        caches.append(open_cache(folder, name))
        done = "decoded" if built else "cache is up to date"
        print(f"{split}: {len(paths):,} images at {size[0]}x{size[1]}, {done}", flush=True)
    return caches[0], caches[1]


def facts_of(cache: ImageCache) -> SplitFacts:
    """Return what a cache's readings say about its images."""
    bad = sum(bool(reading.problem) for reading in cache.readings)
    return SplitFacts(files=cache.files, num_images=len(cache.readings), num_unreadable=bad)


def read_table(path: Path, prepare: str) -> pd.DataFrame:
    """Read labels.csv, test.csv or folds.csv as prepare wrote it: text stays text, targets are integers.

    Raises InputError, naming the command `prepare`, if it is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: not there; run {prepare} first")
    try:
        frame = parse_csv(path.read_bytes(), str(path)).reset_index(drop=True)
        for column in TABLE_COLUMNS[path.name]:
            if column not in frame.columns:
                raise ValueError(f"no column {column!r}")
        for column in frame.columns.difference(["image_path", "id", "boxes", "split"]):
            frame[column] = frame[column].replace("", pd.NA).astype("Int64" if column == "fold" else "int64")
        return frame
    except ValueError as error:  # an InputError too
        raise InputError(f"{path}: is damaged ({error}); run {prepare} again") from error
