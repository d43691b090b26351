"""The decoded image cache: uint8 (N, H, W, 3) RGB, one memory map for train and one for test, of each size.

Files: train_64x128.npy, and train_64x128.json with the ordered image paths, what was found out about each image, and a
stamp of everything that the pixels depend on. The cache is rebuilt when the stamp changes and only then.
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
from threading import Thread
from typing import NamedTuple

import cv2
import numpy as np

from src.core.errors import InputError
from src.core.progress import Progress
from src.core.reading import InputFiles, Location, read_location
from src.core.writing import replacing, sha256_of, write_json
from src.data.images import MAX_PIXELS, ImageProblem, decode_image, resize

POLICY = 2  # raise when images.py reads or resizes images differently
CHUNK = 64  # images handed to a process at a time
MAX_BYTES = 128 << 20  # of an image file: a zip member of zeros is tiny until it is unpacked
SOLO_SECONDS = 2.0  # of decoding before other processes are started: they take as long to start

Job = tuple[str, int, list[Location | None], int]  # _read_chunk's arguments


class Reading(NamedTuple):
    """What reading one image showed: problem is "" if there is none; pixels identify exact duplicates."""

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
    files: str  # hash of the files that were read, the same for caches of any size
    repair: str = "python -m src.prepare"  # the command that makes it again

    @property
    def image_size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def rows_of(self, image_paths: Sequence[str]) -> np.ndarray:
        """Return the cache's row of each image path. Raises InputError if one is not in the cache."""
        rows = {path: row for row, path in enumerate(self.image_paths)}
        missing = [path for path in image_paths if path not in rows]
        if missing:
            raise InputError(f"{missing[0]} is not in the image cache; run {self.repair} again")
        return np.array([rows[path] for path in image_paths], dtype=np.int64)


def cache_name(split: str, size: tuple[int, int]) -> str:
    """Return the file name, without suffix, of the cache of train or test images of this size."""
    return f"{split}_{size[0]}x{size[1]}"


def _files_hash(paths: Sequence[str], located: dict[str, Location], max_pixels: int) -> str:
    digest = hashlib.sha256(f"{POLICY} {cv2.__version__} {max_pixels}".encode())
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


def open_cache(folder: Path, name: str, repair: str = "python -m src.prepare") -> ImageCache:
    """Open <name>.npy for reading. Raises InputError, naming the command `repair`, if it is missing or a byte differs
    from what was written."""
    path = folder / name
    try:
        facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        readings = [Reading(*reading) for reading in facts["readings"]]
        sound = _digest_of(folder / f"{name}.npy") == facts["sha256"]
        images = np.empty((0, *facts["image_size"], 3), np.uint8)
        if sound and facts["image_paths"]:
            images = np.load(folder / f"{name}.npy", mmap_mode="r")
        files = str(facts["files"])
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: not there; run {repair} first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}.npy or .json is damaged ({error}); run {repair} again") from error
    if not sound:
        raise InputError(f"{path}.npy is damaged (its SHA-256 differs from what was written); run {repair} again")
    return ImageCache(images, facts["image_paths"], readings, facts["sha256"], files, repair)


def _is_current(folder: Path, name: str, files: str, size: tuple[int, int]) -> bool:
    try:
        cache = open_cache(folder, name)
        return (cache.files, cache.image_size) == (files, tuple(size)) and len(cache.images) == len(cache.image_paths)
    except (InputError, OSError):
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
    data = np.ascontiguousarray(image).data  # no copy: it may have 143 MiB
    pixels = hashlib.blake2b(data, digest_size=12, key=str(image.shape).encode()).hexdigest()
    return Reading("", "", pixels)


def _end_with_parent(parent: int) -> None:
    """Make a decoding process end within seconds of its parent: after a SIGKILL it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _read_chunk(file: str, start: int, locations: list[Location | None], limit: int) -> list[Reading]:
    cv2.setNumThreads(1)
    images = np.load(file, mmap_mode="r+")
    return [_read_one(location, images[start + i], limit) for i, location in enumerate(locations)]


def _keep_all(file: Path, images: list[np.ndarray]) -> list[Reading]:
    """Write images that need no decoding: in this process, since that is quick."""
    cached = np.load(file, mmap_mode="r+")
    return [_keep(np.ascontiguousarray(image), out) for image, out in zip(images, cached, strict=True)]


def _run_jobs(jobs: list[Job], num_processes: int) -> Iterator[list[Reading]]:
    """Yield the result of each job in order: first from this process, then from as many as asked for."""
    started, done = time.perf_counter(), 0
    while done < len(jobs) and (num_processes <= 1 or time.perf_counter() - started < SOLO_SECONDS):
        yield _read_chunk(*jobs[done])
        done += 1
    if done == len(jobs):
        return
    try:
        # "spawn": a fork would inherit the locks of torch's and opencv's threads.
        with ProcessPoolExecutor(
            min(num_processes, len(jobs) - done),
            mp_context=get_context("spawn"),
            initializer=_end_with_parent,
            initargs=(os.getpid(),),
        ) as pool:
            for readings in pool.map(_read_chunk, *zip(*jobs[done:], strict=True)):
                yield readings
                done += 1
        return
    except BrokenProcessPool:
        why = "a process was killed; out of memory?"
    except OSError as error:
        why = f"{error}; is /dev/shm too small? docker run --shm-size=1g"
    print(f"decoding continues in one process, as no others can be started: {why}")
    yield from (_read_chunk(*job) for job in jobs[done:])


def _reserve(file: Path) -> None:
    """Reserve the file's space on the disk: on a full one, a write through a map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def build_cache(
    folder: Path,
    name: str,
    image_paths: Sequence[str],
    files: InputFiles,
    image_size: tuple[int, int],
    *,
    num_processes: int,
    max_pixels: int = MAX_PIXELS,
) -> bool:
    """Decode all images into <name>.npy, in parallel; return False if the cache was up to date already.

    An image that cannot be read is left black, and its reading says why.
    """
    files_hash = _files_hash(image_paths, files.located, max_pixels)
    if _is_current(folder, name, files_hash, image_size):
        return False
    locations = [files.located.get(path) for path in image_paths]
    readings: list[Reading] = []
    with replacing(folder / f"{name}.npy") as temporary:
        shape = (len(image_paths), *image_size, 3)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()
        _reserve(temporary)
        if all(path in files.pixels for path in image_paths):
            readings, locations = _keep_all(temporary, [files.pixels[path] for path in image_paths]), []
        starts = range(0, len(locations), CHUNK)
        jobs = [(str(temporary), start, locations[start : start + CHUNK], max_pixels) for start in starts]
        with Progress(f"decoding {name}", len(locations), "images") as progress:
            for result in _run_jobs(jobs, num_processes):
                readings += result
                progress.update(len(result))
        (folder / f"{name}.json").unlink(missing_ok=True)  # the old facts must not describe the new pixels
        digest = sha256_of(temporary)
    facts = {"image_size": image_size, "files": files_hash, "sha256": digest, "image_paths": list(image_paths)}
    write_json(folder / f"{name}.json", {**facts, "readings": readings})
    return True
