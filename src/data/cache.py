"""The decoded image cache: uint8 (N, H, W, 3) RGB, one memory map for train and one for test.

Files: <split>.npy, and <split>.json with the ordered image paths, the size, what was found out about each image, and
a stamp of everything that the pixels depend on. The cache is rebuilt when the stamp changes and only then.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from src.core.errors import InputError
from src.core.reading import InputFiles, Location, read_location
from src.core.writing import replacing, sha256_of, write_json
from src.data.images import MAX_PIXELS, ImageProblem, decode_image, resize

POLICY = 2  # raise when images.py reads or resizes images differently
CHUNK = 64  # images handed to a process at a time
MAX_BYTES = 128 << 20  # of a image's file: a zip's member of zeros takes next to no room until it is unpacked
SOLO_SECONDS = 2.0  # seconds of decoding before other processes are asked to help: they take as long to start

Job = tuple[str, int, list[Location | None], int]  # _read_chunk's arguments


class Reading(NamedTuple):
    """What reading one image told: problem is "" where all is well; pixels identify exact copies."""

    problem: str
    detail: str
    pixels: str  # hash of the full-size decoded pixels


@dataclass(frozen=True)
class ImageCache:
    """An open cache: images (N, H, W, 3) uint8 memory map, image_paths and readings in the same order."""

    images: np.ndarray
    image_paths: list[str]
    readings: list[Reading]
    sha256: str

    @property
    def image_size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def rows_of(self, image_paths: Sequence[str]) -> np.ndarray:
        """Return the cache's row for each image path. Raises InputError if one is not in the cache."""
        rows = {path: row for row, path in enumerate(self.image_paths)}
        missing = [path for path in image_paths if path not in rows]
        if missing:
            raise InputError(f"{missing[0]} is not in the image cache; run python -m src.prepare again")
        return np.array([rows[path] for path in image_paths], dtype=np.int64)


def _stamp(paths: Sequence[str], located: dict[str, Location], size: tuple[int, int], max_pixels: int) -> str:
    digest = hashlib.sha256(f"{POLICY} {cv2.__version__} {size} {max_pixels}".encode())
    for path in paths:
        location = located.get(path)
        facts = (location.member, location.size, location.stamp) if location else None
        digest.update(f"\n{path}\t{facts}".encode())
    return digest.hexdigest()


def _digest_of(file: Path) -> str:
    """Return a file's SHA-256, computed once in a process for the file as it stands."""
    facts = file.stat()
    return _digest(file, (facts.st_ino, facts.st_size, facts.st_mtime_ns))


@lru_cache
def _digest(file: Path, facts: tuple[int, ...]) -> str:
    return sha256_of(file)


def open_cache(folder: Path, split: str) -> ImageCache:
    """Open <split>.npy for reading. Raises InputError if it is absent or a byte differs from what was written."""
    try:
        facts = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
        readings = [Reading(*reading) for reading in facts["readings"]]
        sound = _digest_of(folder / f"{split}.npy") == facts["sha256"]
        images = np.empty((0, 1, 1, 3))
        if sound and facts["image_paths"]:
            images = np.load(folder / f"{split}.npy", mmap_mode="r")
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: not there; run python -m src.prepare first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / split}.npy or .json is damaged or of an older version ({error}); "
            "run python -m src.prepare again"
        ) from error
    if not sound:
        raise InputError(
            f"{folder / split}.npy is damaged (its SHA-256 differs from what was written); "
            "run python -m src.prepare again"
        )
    return ImageCache(images, facts["image_paths"], readings, facts["sha256"])


def _is_current(folder: Path, split: str, stamp: str) -> bool:
    try:
        facts = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
        return bool(facts["stamp"] == stamp) and len(open_cache(folder, split).images) == len(facts["image_paths"])
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False


def _read_one(location: Location | None, out: np.ndarray, limit: int) -> Reading:
    if location is None:
        return Reading("missing", "no such file", "")
    if location.size > MAX_BYTES:
        return Reading("over-large", f"{location.size:,} bytes, at most {MAX_BYTES:,} are read", "")
    try:
        image = decode_image(read_location(location), limit)
    except ImageProblem as problem:
        return Reading(problem.kind, problem.detail, "")
    except (InputError, OSError) as error:
        return Reading("unreadable", str(error), "")
    return _keep(image, out)


def _keep(image: np.ndarray, out: np.ndarray) -> Reading:
    out[:] = resize(image, out.shape[:2])
    whole = np.ascontiguousarray(image).data  # no copy: it may have 143 MiB
    pixels = hashlib.blake2b(whole, digest_size=12, key=str(image.shape).encode()).hexdigest()
    return Reading("", "", pixels)


def _read_chunk(file: str, start: int, locations: list[Location | None], limit: int) -> list[Reading]:
    cv2.setNumThreads(1)
    images = np.load(file, mmap_mode="r+")
    return [_read_one(place, images[start + i], limit) for i, place in enumerate(locations)]


def _keep_all(file: Path, pictures: list[np.ndarray]) -> list[Reading]:
    """Write images that need no decoding: in this process, since that is quick."""
    images = np.load(file, mmap_mode="r+")
    return [_keep(np.ascontiguousarray(picture), out) for picture, out in zip(pictures, images, strict=True)]


def _run_jobs(jobs: list[Job], num_processes: int) -> Iterator[list[Reading]]:
    """Yield the result of each job in order: the first of this process, then of as many as asked for."""
    started, done = time.perf_counter(), 0
    while done < len(jobs) and (num_processes <= 1 or time.perf_counter() - started < SOLO_SECONDS):
        yield _read_chunk(*jobs[done])
        done += 1
    if done == len(jobs):
        return
    try:
        # "spawn": a fork would inherit the locks of torch's and opencv's threads.
        with ProcessPoolExecutor(min(num_processes, len(jobs) - done), mp_context=get_context("spawn")) as pool:
            for readings in pool.map(_read_chunk, *zip(*jobs[done:], strict=True)):
                yield readings
                done += 1
        return
    except BrokenProcessPool:
        why = "a process was killed, for want of memory?"
    except OSError as error:
        why = f"{error}; room in /dev/shm? docker run --shm-size=1g"
    print(f"decoding goes on in one process, as others cannot help: {why}")
    yield from (_read_chunk(*job) for job in jobs[done:])


def _take_room(file: Path) -> None:
    """Have the disk set the whole file's room aside: where it is full, a write through a map would kill the process."""
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
) -> bool:
    """Decode all images into <split>.npy, in parallel; return False where the cache was up to date already.

    A image that cannot be read leaves zeros, and its reading says why.
    """
    stamp = _stamp(image_paths, files.located, image_size, max_pixels)
    if _is_current(folder, split, stamp):
        return False
    places = [files.located.get(path) for path in image_paths]
    readings: list[Reading] = []
    with replacing(folder / f"{split}.npy") as temporary:
        shape = (len(image_paths), *image_size, 3)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()
        _take_room(temporary)
        if all(path in files.pixels for path in image_paths):
            readings, places = _keep_all(temporary, [files.pixels[path] for path in image_paths]), []
        starts = range(0, len(places), CHUNK)
        jobs = [(str(temporary), start, places[start : start + CHUNK], max_pixels) for start in starts]
        with tqdm(total=len(places), desc=f"decoding {split}", unit="image", disable=None) as progress:
            for result in _run_jobs(jobs, num_processes):
                readings += result
                progress.update(len(result))
        (folder / f"{split}.json").unlink(missing_ok=True)  # the old facts must not describe the new pixels
        digest = sha256_of(temporary)
    facts = {"image_size": image_size, "stamp": stamp, "sha256": digest, "image_paths": list(image_paths)}
    write_json(folder / f"{split}.json", {**facts, "readings": readings})
    return True
