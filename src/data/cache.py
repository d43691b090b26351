"""The decoded image cache: uint8 (N, H, W, 3) RGB, one memory map for train and one for test, of each size.

Files: train_64x128_<pixels>.npy and .json, named after the pixels of the originals, so that several sizes and several
data sets lie side by side. The JSON (CacheRecord) says which image each row holds, from which file, and what was found
out about it. It is rebuilt if the files have other sizes or times; if their pixels are the same, so is its name.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from src.core.errors import InputError
from src.core.locking import temporary_of
from src.core.reading import InputFiles
from src.core.records import read_record, write_record
from src.core.writing import replacing
from src.core.zips import Location
from src.data.decoding import decode_all, keep_all
from src.data.images import MAX_PIXELS
from src.data.pixels import Pixels, hash_blocks

POLICY = 2  # raise when images.py reads or resizes images differently
PREPARE = "python -m src.prepare"

Source = tuple[int, int] | None  # size, and mtime in ns or a zip member's CRC; None for a missing file


class Reading(NamedTuple):
    """What reading one image showed: problem is "" if there is none; pixels identify exact duplicates."""

    problem: str
    detail: str
    pixels: str  # hash of the full-size decoded pixels


@dataclass(frozen=True, kw_only=True)
class CacheRecord:
    """What a cache's JSON holds."""

    made_with: str  # all else that the pixels depend on: this policy, OpenCV's version, --max-pixels
    image_size: tuple[int, int]
    pixels: str  # hash of the originals' pixels and paths, the same for caches of any size
    image_paths: list[str]
    sources: list[Source]
    readings: list[Reading]
    blocks: list[str]  # hash of each block of the .npy


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """An open cache: `images` is checked as it is read; image_paths, sources and readings have the same order."""

    images: Pixels
    record: CacheRecord
    repair: str = PREPARE  # the command that makes it again

    @property
    def image_paths(self) -> list[str]:
        return self.record.image_paths

    @property
    def readings(self) -> list[Reading]:
        return self.record.readings

    @property
    def image_size(self) -> tuple[int, int]:
        return self.record.image_size

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.image_paths)}

    def rows_of(self, image_paths: Sequence[str]) -> np.ndarray:
        """Return the cache's row of each image path. Raises InputError if one is not in the cache."""
        rows = self._rows
        missing = [path for path in image_paths if path not in rows]
        if missing:
            raise InputError(f"{missing[0]} is not in the image cache; run {self.repair} again")
        return np.array([rows[path] for path in image_paths], dtype=np.int64)


def cache_name(split: str, size: tuple[int, int], pixels: str) -> str:
    """Return the file name, without suffix, of a cache."""
    return f"{split}_{size[0]}x{size[1]}_{pixels[:8]}"


def sources_of(image_paths: Sequence[str], located: dict[str, Location]) -> list[Source]:
    """Return the current size and time of each image's file."""
    found = [located.get(path) for path in image_paths]
    return [(location.size, location.stamp) if location else None for location in found]


def _made_with(max_pixels: int) -> str:
    return f"{POLICY} {cv2.__version__} {max_pixels}"


def pixels_hash(image_paths: Sequence[str], readings: Sequence[Reading], made_with: str) -> str:
    """Return the hash that names the caches of these images, read and resized in this way."""
    digest = hashlib.sha256(f"{made_with}\n".encode())
    for path, reading in zip(image_paths, readings, strict=True):
        digest.update(f"{path}\t{reading.problem}\t{reading.pixels}\n".encode())
    return digest.hexdigest()


def open_cache(folder: Path, name: str, repair: str = PREPARE) -> ImageCache:
    """Open <name>.npy for reading. Raises InputError, naming the command `repair`, if it is missing or damaged."""
    file = folder / f"{name}.npy"
    record = read_record(folder / f"{name}.json", CacheRecord, f"run {repair} first", f"run {repair} again")
    count = len(record.image_paths)
    try:
        images = Pixels(file, (count, *record.image_size, 3), record.blocks, repair)
    except FileNotFoundError as error:
        raise InputError(f"{file}: not there; run {repair} again") from error
    return ImageCache(images=images, record=record, repair=repair)


def _find_current(
    folder: Path, split: str, size: tuple[int, int], image_paths: Sequence[str], sources: list[Source], made_with: str
) -> ImageCache | None:
    """Return an undamaged cache that was made from these very files, or None."""
    for path in sorted(folder.glob(f"{split}_{size[0]}x{size[1]}_*.json")):
        try:
            cache = open_cache(folder, path.stem)
            record = cache.record
            if (record.made_with, record.image_paths, record.sources) == (made_with, list(image_paths), sources):
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
    num_processes: int,
    max_pixels: int = MAX_PIXELS,
) -> tuple[ImageCache, bool]:
    """Decode all images, in parallel, unless a cache of these files is there; return it and whether it was decoded.

    An image that cannot be read is left black, and its reading says why.
    """
    sources, made_with = sources_of(image_paths, files.located), _made_with(max_pixels)
    current = _find_current(folder, split, image_size, image_paths, sources, made_with)
    if current:
        return current, False
    folder.mkdir(parents=True, exist_ok=True)
    pending = temporary_of(folder / f"{split}.npy")
    try:
        shape = (len(image_paths), *image_size, 3)
        np.lib.format.open_memmap(pending, mode="w+", dtype=np.uint8, shape=shape).flush()
        _reserve(pending)
        if all(path in files.pixels for path in image_paths):
            found = keep_all(pending, [files.pixels[path] for path in image_paths])
        else:
            locations = [files.located.get(path) for path in image_paths]
            found = decode_all(pending, split, locations, num_processes, max_pixels)
        record = CacheRecord(
            made_with=made_with,
            image_size=image_size,
            pixels="",
            image_paths=list(image_paths),
            sources=sources,
            readings=[Reading(*reading) for reading in found],
            blocks=hash_blocks(np.load(pending, mmap_mode="r")) if len(image_paths) else [],
        )
        return _keep(folder, split, pending, record), True
    finally:
        pending.unlink(missing_ok=True)


def _keep(folder: Path, split: str, pending: Path, record: CacheRecord) -> ImageCache:
    """Move a decoded cache to the name that its pixels give it.

    The new JSON fits either the new .npy or, if the pixels did not change, the old one too: a command that opens the
    cache in between reads what it expects, or is told of the damage.
    """
    record = replace(record, pixels=pixels_hash(record.image_paths, record.readings, record.made_with))
    name = cache_name(split, record.image_size, record.pixels)
    with replacing(folder / f"{name}.npy") as temporary:
        os.replace(pending, temporary)
    write_record(folder / f"{name}.json", record)
    return open_cache(folder, name)
