"""The decoded image cache: (N, H, W, 3) uint8 RGB, one memory map for train and one for test, of each size.

A competition with bands has (N, H, W, bands) uint8 or uint16 instead.

The rows of train are in a random order: a block of neighbouring rows, which are read together from a cache larger than
memory, is a sample of the whole table, even if the table is sorted by class.

Files: train_64x128_<pixels>.npy and .json, named after the pixels of the originals, so that several sizes and several
data sets lie side by side; and train_64x128_<pixels>_<facts>.npz (facts.py), which says which image each row holds,
from which file, and what was found out about it. The JSON (CacheRecord) holds the hashes of both. The cache is rebuilt
if the files have other sizes or times; if their pixels are the same, so is its name.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from src.competitions.spec import FITS
from src.core.errors import InputError
from src.core.located import Located
from src.core.locking import temporary_of
from src.core.reading import InputFiles
from src.core.records import read_record, write_record
from src.core.texts import Texts
from src.core.writing import replacing, sha256_of, write_arrays
from src.data.crops import CroppedLocations, Crops
from src.data.decoding import Engine, decode_all, in_processes, keep_all
from src.data.facts import Facts, Reading, Readings, Sources, columns_of
from src.data.images import Decoding
from src.data.keyed import random_order
from src.data.pixels import Pixels, hash_blocks
from src.data.remote import Remote

POLICY = 3  # raise when images.py reads or resizes images differently
PREPARE = "python -m src.prepare"


@dataclass(frozen=True, kw_only=True)
class CacheRecord:
    """What a cache's JSON holds."""

    made_with: str  # all else that the pixels depend on: this policy, OpenCV's version, --max-pixels, --resize
    image_size: tuple[int, int]
    bands: Annotated[int, Field(exclude_if=lambda bands: not bands)] = 0  # not written for ordinary pictures
    depth: Annotated[int, Field(exclude_if=lambda depth: depth == 8)] = 8
    pixels: str  # hash of the originals' pixels and paths, the same for caches of any size
    num_images: int
    shuffled: bool  # whether the rows are in `random_order` instead of the table's order
    facts: str  # SHA-256 of the facts file
    blocks: list[str]  # hash of each block of the .npy

    @property
    def kind(self) -> Decoding:
        """What its pixels are: channels and dtype."""
        return Decoding(bands=self.bands, depth=self.depth)

    @property
    def fit(self) -> str:
        """How images were fitted to its size; see `made_with`."""
        return next((word for word in self.made_with.split() if word in FITS), "stretch")

    @property
    def crops(self) -> str:
        """Hash of the crops.csv by which images were cropped before, or nothing."""
        return self.made_with.partition(" crops ")[2]


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """An open cache: `images` is checked as it is read; image_paths, sources and readings have the same order."""

    images: Pixels
    record: CacheRecord
    facts: Facts
    repair: str = PREPARE  # the command that makes it again

    @property
    def image_paths(self) -> Texts:
        return self.facts.image_paths

    @property
    def sources(self) -> Sources:
        return self.facts.sources

    @property
    def readings(self) -> Readings:
        return self.facts.readings

    @property
    def image_size(self) -> tuple[int, int]:
        return self.record.image_size

    @cached_property
    def numbers(self) -> np.ndarray:
        """(N,) int64: the position of each row's image in the table that prepare read."""
        return _numbers(len(self.images), self.record.shuffled)

    def rows_of(self, image_paths: Sequence[str]) -> np.ndarray:
        """Return the cache's row of each image path. Raises InputError if one is not in the cache."""
        rows = self.image_paths.find(image_paths)
        if (rows < 0).any():
            raise InputError(
                f"{image_paths[int((rows < 0).argmax())]} is not in the image cache; run {self.repair} again"
            )
        return rows


def _numbers(count: int, shuffled: bool) -> np.ndarray:
    return random_order(count) if shuffled else np.arange(count)


def cache_name(split: str, size: tuple[int, int], pixels: str) -> str:
    """Return the file name, without suffix, of a cache."""
    return f"{split}_{size[0]}x{size[1]}_{pixels[:8]}"


def facts_file(folder: Path, name: str, sha256: str) -> Path:
    """Return the path of a cache's facts. Their hash is in its name: the JSON and what it names change at once."""
    return folder / f"{name}_{sha256[:8]}.npz"


def sources_of(image_paths: Iterable[str], located: Located) -> Sources:
    """Return the current size and time of each image's file."""
    return Sources(*located.locations(image_paths).sizes_and_stamps())


def made_with(how: Decoding, crops: Crops | None = None) -> str:
    """Return all that an image's pixels in a cache depend on, beside its file."""
    made = f"{POLICY} {cv2.__version__} {how.max_pixels}" + f" {how.fit}" * (how.fit != "stretch")
    made += f" {how.bands} bands of {how.depth} bits" if how.bands else ""
    return made + (f" crops {crops.sha256}" if crops else "")


def pixels_hash(image_paths: Sequence[str], readings: Sequence[Reading], made_with: str) -> str:
    """Return the hash that names the caches of these images, in the table's order, read and resized in this way."""
    digest = hashlib.sha256(f"{made_with}\n".encode())
    for path, reading in zip(image_paths, readings, strict=True):
        digest.update(f"{path}\t{reading.problem}\t{reading.pixels}\n".encode())
    return digest.hexdigest()


def read_cache_record(folder: Path, name: str, repair: str) -> CacheRecord:
    """Read <name>.json. Raises InputError, naming the command `repair`."""
    return read_record(folder / f"{name}.json", CacheRecord, f"run {repair} first", f"run {repair} again")


def open_cache(folder: Path, name: str, repair: str = PREPARE, remote: Remote | None = None) -> ImageCache:
    """Open <name>.npy, here or where `remote` has it, for reading.

    Raises InputError, naming the command `repair`, if it is missing or damaged.
    """
    file = folder / f"{name}.npy"
    record = read_cache_record(folder, name, repair)
    facts = Facts(facts_file(folder, name, record.facts), record.facts, repair)
    shape, dtype = (record.num_images, *record.image_size, record.kind.channels), record.kind.dtype
    try:
        if remote:
            images: Pixels = remote.open(name, shape, record.blocks, dtype)
        else:
            images = Pixels(file, shape, record.blocks, repair, dtype)
    except FileNotFoundError as error:
        raise InputError(f"{file}: not there; run {repair} again") from error
    return ImageCache(images=images, record=record, facts=facts, repair=repair)


def _find_current(
    folder: Path, split: str, size: tuple[int, int], image_paths: Texts, sources: Sources, made_with: str, sized: bool
) -> ImageCache | None:
    """Return an undamaged cache that was made from these very files, if `sized` with their sizes, or None."""
    for path in sorted(folder.glob(f"{split}_{size[0]}x{size[1]}_*.json")):
        try:
            cache = open_cache(folder, path.stem)
            same = cache.record.made_with == made_with and cache.image_paths == image_paths
            same = same and (cache.readings.shapes is not None or not sized)
            if same and cache.sources.same(sources).all():
                cache.images.check_all()
                return cache
        except (InputError, OSError):
            continue
    return None


def _reserve(file: Path) -> None:
    """Reserve the file's space on the disk: on a full one, a write through a map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def build_cache(
    folder: Path,
    split: str,
    image_paths: Sequence[str],
    files: InputFiles,
    image_size: tuple[int, int],
    *,
    engine: Engine = in_processes,
    how: Decoding = Decoding(),  # noqa: B008
    shuffled: bool = False,
    sized: bool = False,
    crops: Crops | None = None,
) -> tuple[ImageCache, bool]:
    """Decode all images, by `engine`, unless a cache of these files is there; return it and whether it was decoded.

    An image that cannot be read is left black, and its reading says why. If `shuffled`, the rows are in `random_order`;
    if `sized`, the sizes that they had before are kept. Of an image with a crop, that part alone is kept.
    """
    table, numbers, made = Texts.of(image_paths), _numbers(len(image_paths), shuffled), made_with(how, crops)
    paths = table.pick(numbers) if shuffled else table
    locations = files.located.locations(paths)
    sources = Sources(*locations.sizes_and_stamps())
    current = _find_current(folder, split, image_size, paths, sources, made, sized)
    if current:
        return current, False
    folder.mkdir(parents=True, exist_ok=True)
    pending = temporary_of(folder / f"{split}.npy")
    try:
        shape = (len(paths), *image_size, how.channels)
        np.lib.format.open_memmap(pending, mode="w+", dtype=how.dtype, shape=shape).flush()
        _reserve(pending)
        if files.pixels and any(path in files.pixels for path in paths):
            if crops:
                raise InputError(f"{split}: --crops is for images in files of their own; leave it out")
            if how.bands:
                raise InputError(f"{split}: bands={how.bands} is for images in files of their own; leave it out")
            readings = keep_all(pending, [files.pixels.get(path) for path in paths], how, sized)
        else:
            cropped = CroppedLocations(locations, paths, crops) if crops else locations
            readings = decode_all(pending, split, cropped, how, engine, sized)
        record = CacheRecord(
            made_with=made,
            image_size=image_size,
            bands=how.bands,
            depth=how.depth,
            pixels=pixels_hash(table, readings.pick(np.argsort(numbers)), made),
            num_images=len(paths),
            shuffled=shuffled,
            facts="",
            blocks=hash_blocks(np.load(pending, mmap_mode="r")) if len(paths) else [],
        )
        return _keep(folder, split, pending, record, columns_of(paths, sources, readings)), True
    finally:
        pending.unlink(missing_ok=True)


def _keep(folder: Path, split: str, pending: Path, record: CacheRecord, columns: dict[str, np.ndarray]) -> ImageCache:
    """Move a decoded cache to the name that its pixels give it.

    The new JSON fits either the new .npy or, if the pixels did not change, the old one too: a command that opens the
    cache in between reads what it expects, or is told of the damage.
    """
    name = cache_name(split, record.image_size, record.pixels)
    with replacing(folder / f"{name}.npy") as temporary:
        os.replace(pending, temporary)
    written = temporary_of(folder / f"{name}.npz")
    try:
        write_arrays(written, **columns)
        record = replace(record, facts=sha256_of(written))
        os.replace(written, facts_file(folder, name, record.facts))
    finally:
        written.unlink(missing_ok=True)
    write_record(folder / f"{name}.json", record)
    for old in folder.glob(f"{name}_*.npz"):
        if old != facts_file(folder, name, record.facts):
            old.unlink()
    return open_cache(folder, name)
