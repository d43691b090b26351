"""Decoding images into an array file, in several processes with bounded memory."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.core.errors import InputError
from src.core.progress import Progress
from src.core.signals import end_with_parent
from src.core.zips import Location, read_location
from src.data.bands import decode_bands
from src.data.crops import Crop, cut
from src.data.facts import Readings
from src.data.images import Decoding, ImageProblem, decode_image, fitted, zero_tail

CHUNK = 64  # images handed to a process at a time
MAX_BYTES = 128 << 20  # of an image file: a zip member of zeros is tiny until it is unpacked
MAX_MEMORY = 2 << 30  # bytes that decoding may add to a process; the largest accepted images take 0.6 GiB
SOLO_SECONDS = 2.0  # of decoding before other processes are started: they take as long to start

WINDOW = 1024  # chunks handed to the processes together, so that those of millions of images are not all held

Found = tuple[str, str, str, tuple[int, int]]  # the fields of a Reading; height and width after cropping
UNKNOWN = (0, 0)  # size of an image that cannot be read
MISSING = ("missing", "no such file", "", UNKNOWN)
LONGEST = 2**16 - 1  # side that `Readings.shapes` holds
Job = tuple[str, int, list[Location | None], Decoding]  # _read_chunk's arguments


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Make allocations fail that add more than MAX_MEMORY to this process: a damaged file can ask for any size."""
    try:
        import resource

        with open("/proc/self/statm") as stream:
            now = int(stream.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")  # data and stack
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, OSError):  # not Linux
        yield
        return
    limit = now + MAX_MEMORY
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def decode(data: bytes, how: Decoding) -> np.ndarray:
    """Decode an image file to (H, W, C), for prepare and serve alike. Raises ImageProblem, MemoryError."""
    return decode_bands(data, how) if how.bands else decode_image(data, how.max_pixels)


def read_one(location: Location | None, out: np.ndarray, how: Decoding) -> Found:
    """Decode an image into `out`, (H, W, C); return what was found out about it."""
    if location is None:
        return MISSING
    if location.size > MAX_BYTES:
        return "over-large", f"{location.size:,} bytes, at most {MAX_BYTES:,} are read", "", UNKNOWN
    try:
        data = read_location(location)
        return _keep(decode(data, how), out, how, zero_tail(data), location.crop)
    except ImageProblem as problem:
        return problem.kind, problem.detail, "", UNKNOWN
    except MemoryError:
        return "over-large", f"decoding it takes more than {MAX_MEMORY >> 30} GiB", "", UNKNOWN
    except (InputError, OSError) as error:
        return "unreadable", str(error), "", UNKNOWN


def _keep(image: np.ndarray, out: np.ndarray, how: Decoding, note: str = "", crop: Crop | None = None) -> Found:
    part = cut(image, crop)
    out[:] = fitted(part, (out.shape[0], out.shape[1]), how.fit, how.bars)
    data = np.ascontiguousarray(image).data  # no copy: it may have 143 MiB
    pixels = hashlib.blake2b(data, digest_size=12, key=str(image.shape).encode()).hexdigest()
    return "", note, pixels, (min(part.shape[0], LONGEST), min(part.shape[1], LONGEST))


def _read_chunk(file: str, start: int, locations: list[Location | None], how: Decoding) -> list[Found]:
    cv2.setNumThreads(1)
    images = np.load(file, mmap_mode="r+")
    with bounded_memory():
        return [read_one(location, images[start + i], how) for i, location in enumerate(locations)]


def keep_all(file: Path, images: list[np.ndarray | None], how: Decoding, sized: bool = False) -> Readings:
    """Write images that need no decoding, None for missing ones: in this process, since that is quick."""
    if not images:
        return _readings((), 0, sized)
    cached = np.load(file, mmap_mode="r+")
    found = (
        MISSING if image is None else _keep(np.ascontiguousarray(image), out, how)
        for image, out in zip(images, cached, strict=True)
    )
    return _readings(found, len(images), sized)


def _readings(found: Iterable[Found], count: int, sized: bool) -> Readings:
    """Return what was found out about `count` images, taken as it comes; their sizes if `sized`."""
    shapes = np.zeros((count, 2), np.uint16) if sized else None

    def fields() -> Iterator[tuple[str, str, str]]:
        for row, (problem, detail, pixels, shape) in enumerate(found):
            if shapes is not None:
                shapes[row] = shape
            yield problem, detail, pixels

    readings = Readings.of(fields(), count)
    readings.shapes = shapes
    return readings


class Jobs(Sequence[Job]):
    """The chunks of images to decode, each made when it is asked for."""

    def __init__(self, file: Path, locations: Sequence[Location | None], how: Decoding) -> None:
        self.file, self.locations, self.how = str(file), locations, how

    def __len__(self) -> int:
        return -(-len(self.locations) // CHUNK)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        start = number * CHUNK
        return self.file, start, list(self.locations[start : start + CHUNK]), self.how


def in_processes(jobs: Jobs, num_processes: int = 1) -> Iterator[list[Found]]:
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
            initializer=end_with_parent,
            initargs=(os.getpid(),),
        ) as pool:
            while done < len(jobs):
                for found in pool.map(_read_chunk, *zip(*jobs[done : done + WINDOW], strict=True)):
                    yield found
                    done += 1
        return
    except BrokenProcessPool:
        why = "a process was killed; out of memory?"
    except OSError as error:
        why = f"{error}; is /dev/shm too small? docker run --shm-size=1g"
    print(f"decoding continues in one process, as no others can be started: {why}")
    yield from (_read_chunk(*jobs[number]) for number in range(done, len(jobs)))


Engine = Callable[[Jobs], Iterator[list[Found]]]


def decode_all(
    file: Path,
    name: str,
    locations: Sequence[Location | None],
    how: Decoding,
    engine: Engine = in_processes,
    sized: bool = False,
) -> Readings:
    """Decode images into the rows of an array file; return what was found out about each, if `sized` its size too.

    `engine` does the jobs and yields what it finds out about the images, in their order.
    """

    def found() -> Iterator[Found]:
        with Progress(f"decoding {name}", len(locations), "images") as progress:
            for result in engine(Jobs(file, locations, how)):
                yield from result
                progress.update(len(result))

    return _readings(found(), len(locations), sized)
