"""A snapshot of a competition, opened: its classes, its tables, its image caches."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from src.competitions.registry import load_competition
from src.competitions.spec import FITS, Competition
from src.config import Paths, PixelPaths
from src.core.errors import InputError
from src.core.flags import check_range, flags_of
from src.core.records import read_record
from src.data.cache import ImageCache, cache_name, open_cache
from src.data.images import MAX_PIXELS, Decoding
from src.data.remote import Remote
from src.data.snapshot import Current, Snapshot, read_chunks, read_snapshot, read_table

# Flags of prepare that decide what it writes, so a command that is to do the same again needs them.
PREPARE_FLAGS = (
    "split",
    "num_folds",
    "num_val",
    "folds",
    "seed",
    "duplicates",
    "max_unreadable",
    "max_pixels",
    "resize",
    "relabel",
    "crops",
)


def command(config: Paths, name: str, flags: str = "") -> str:
    """Return the command line of another command for the same competition and folders."""
    folders = flags_of(config, "input_dir", "runs_dir")
    if name in ("predict", "blend", "submit", "crops"):
        folders += flags_of(config, "submissions_dir")
    if isinstance(config, PixelPaths) and name in ("train", "evaluate", "predict", "blend"):
        folders += flags_of(config, "cache_url", "cache_local_gb", "cache_local_dir")
    return f"python -m src.{name} --competition {shlex.quote(config.competition)}{folders}{flags}"


def remote_of(config: Paths, root: Path) -> Remote | None:
    """Return where --cache-url has the pixels of the competition in runs/<competition>, or None without that flag."""
    if not isinstance(config, PixelPaths) or config.cache_url is None:
        return None
    check_range("cache-local-gb", config.cache_local_gb, 1, 1e6)
    folder = config.cache_local_dir or root / "cache" / "blocks"
    return Remote(url=config.cache_url, folder=folder, limit=int(config.cache_local_gb * 1e9))


def prepared_folder(config: Paths, competition: Competition) -> Path:
    """Return runs/<competition>/prepared, which holds the snapshots."""
    return config.runs_dir / competition.name / "prepared"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One snapshot: runs/<competition>/prepared/<id>/, with the caches of its images in runs/<competition>/cache/."""

    config: Paths  # the current command's --competition and folders
    competition: Competition  # with the classes that prepare found
    snapshot: Snapshot
    image_size: tuple[int, int]  # of the cache to read unless another size is asked for
    _opened: dict[tuple[str, tuple[int, int]], ImageCache] = field(default_factory=dict, compare=False, repr=False)

    @property
    def root(self) -> Path:
        """runs/<competition>: holds prepared/, cache/ and the runs."""
        return self.config.runs_dir / self.competition.name

    @cached_property
    def id(self) -> str:
        return self.snapshot.id

    @property
    def folder(self) -> Path:
        return self.root / "prepared" / self.id

    def cache_size(self, image_size: tuple[int, int] | None) -> tuple[int, int]:
        """Return which cache a new run reads: that of --image-size if there is one, or the newest."""
        if image_size and self.cache_file("train", image_size).with_suffix(".json").exists():
            return image_size
        return self.image_size

    def chunks(self, name: str) -> Iterator[pd.DataFrame]:
        """Yield some rows of a table at a time: a million paths as str take more than all else that training holds."""
        return read_chunks(self.folder, name, self.snapshot, self.command())

    def _table(self, name: str) -> pd.DataFrame:
        return read_table(self.folder, name, self.snapshot, self.command())

    @cached_property
    def labels(self) -> pd.DataFrame:
        return self._table("labels.csv")

    @cached_property
    def folds(self) -> pd.DataFrame:
        return self._table("folds.csv")

    @cached_property
    def problems(self) -> pd.DataFrame:
        """What prepare found wrong with images, see src.data.problems."""
        return self._table("problems.csv")

    @cached_property
    def test(self) -> pd.DataFrame:
        """The sample submission as prepare found it; see src.inference.testset for what predict answers."""
        return self._table("test.csv")

    def command(self, name: str = "prepare", size: tuple[int, int] | None = None) -> str:
        """Return a command line for this competition; prepare's carries the flags it was run with."""
        flags = self.snapshot.flags if name == "prepare" else ""
        return command(self.config, name, flags + (f" --image-size {size[0]} {size[1]}" if size else ""))

    @property
    def remote(self) -> Remote | None:
        """Where --cache-url has the pixels, if it is given."""
        return remote_of(self.config, self.root)

    @property
    def decoding(self) -> Decoding:
        """How prepare decoded the images: as its flags and the competition say."""
        words, competition = shlex.split(self.snapshot.flags), self.competition
        given = dict(zip(words, words[1:], strict=False))
        pixels, fit = int(given.get("--max-pixels", MAX_PIXELS)), given.get("--resize", competition.resize)
        return Decoding(pixels, next(one for one in FITS if one == fit), competition.bands, competition.depth)

    @property
    def is_cropped(self) -> bool:
        """Whether the caches hold parts of the images, cut by prepare --crops."""
        return "--crops" in shlex.split(self.snapshot.flags)

    def cache_file(self, split: str, size: tuple[int, int]) -> Path:
        """The .npy of the cache of train or test images of this size."""
        name = cache_name(split, size, getattr(self.snapshot, split).pixels)
        return self.root / "cache" / f"{name}.npy"

    def cache(self, split: str, size: tuple[int, int] | None = None) -> ImageCache:
        """Open the cache of train or test images, of the size made last unless another is given.

        Raises InputError, with the command that makes it, if it is missing or damaged.
        """
        size = size or self.image_size
        if (split, size) in self._opened:
            return self._opened[split, size]
        file = self.cache_file(split, size)
        cache = open_cache(file.parent, file.stem, self.command(size=size), self.remote)
        if (cache.record.pixels, cache.image_size) != (getattr(self.snapshot, split).pixels, size):
            raise InputError(f"{file.with_suffix('.json')}: belongs to another cache; run {cache.repair} again")
        competition = self.competition
        if (cache.record.bands, cache.record.depth) != (competition.bands, competition.depth):
            raise InputError(
                f"{file}: was made with bands={cache.record.bands}, depth={cache.record.depth}, the competition has "
                f"bands={competition.bands}, depth={competition.depth}; change it back, or run {cache.repair} again"
            )
        if cache.record.fit != self.decoding.fit:
            raise InputError(
                f"{file}: was made with resize={cache.record.fit}, the competition has resize={self.decoding.fit}; "
                f"change it back, or run {cache.repair} again"
            )
        self._opened[split, size] = cache
        return cache

    @cached_property
    def _fold_numbers(self) -> list[int]:
        chunks = self.chunks("folds.csv")
        return sorted({int(number) for chunk in chunks for number in chunk["fold"].dropna().unique()})

    def fold_numbers(self, text: str) -> list[int]:
        """Return the folds that --fold asks for. Raises InputError naming the existing ones."""
        known = self._fold_numbers
        if text == "all":
            return known
        if not text.isdecimal() or int(text) not in known:
            raise InputError(f"--fold {text}: folds.csv has {', '.join(map(str, known))}; give one of them, or all")
        return [int(text)]

    def unreadable_note(self) -> str:
        """Return a line about test images that could not be read, or nothing."""
        if not self.snapshot.test.num_unreadable:
            return ""
        return (
            f"note: {self.snapshot.test.num_unreadable:,} of {self.snapshot.test.num_images:,} test images are missing "
            f"or unreadable and answered from a black image; see {self.folder / 'problems.csv'}"
        )


def open_prepared(config: Paths) -> Prepared:
    """Open the newest snapshot of --competition. Raises InputError, with the command to run, if there is none yet."""
    competition, prepare = load_competition(config.competition), command(config, "prepare")
    path = prepared_folder(config, competition) / "current.json"
    current = read_record(path, Current, f"run {prepare} first", f"run {prepare} again")
    return open_snapshot(config, current.snapshot, current.image_size)


def open_snapshot(config: Paths, snapshot_id: str, image_size: tuple[int, int]) -> Prepared:
    """Open a snapshot of --competition. Raises InputError."""
    competition = load_competition(config.competition)
    folder = prepared_folder(config, competition) / snapshot_id
    snapshot = read_snapshot(folder, command(config, "prepare"))
    if snapshot.competition != competition.name:
        raise InputError(
            f"{folder}: belongs to competition {snapshot.competition!r}, not {competition.name!r}; remove it"
        )
    competition = replace(competition, heads=snapshot.heads)
    return Prepared(config=config, competition=competition, snapshot=snapshot, image_size=image_size)


def known_competition(config: Paths, or_else: str | None) -> Competition:
    """Return a competition with its classes: its own, or those that prepare found in the data.

    Raises InputError, suggesting prepare or `or_else`, if neither is known; without `or_else` it may stay unknown.
    """
    competition = load_competition(config.competition)
    if competition.heads:
        return competition
    if or_else is None:
        return competition
    if (prepared_folder(config, competition) / "current.json").exists():
        return open_prepared(config).competition
    raise InputError(
        f"{config.competition}: its classes are only known from its data; run {command(config, 'prepare')} first, or "
        f"{or_else}"
    )
