"""Decoding on a Ray cluster: each task reads a shard of the images from its node's copy of input/ and returns pixels.

The pixels come back through Ray's object store and are written by this process alone, so the cache has the bytes that
decoding in one process gives it.
"""

import os
import platform
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from src.core.cluster import CODE, num_cluster_cores
from src.core.errors import InputError
from src.core.zips import Location
from src.data.cache import made_with
from src.data.decoding import Found, Jobs, bounded_memory, read_one
from src.data.images import Decoding

SHARD_IMAGES = 4096  # at most, decoded by a task
SHARD_BYTES = 64 << 20  # of pixels that a task returns at most
SHARDS_PER_CORE = 4  # at least, if there are enough images: so that all cores end at about the same time
MIN_SHARD = 64  # images
RETRIES = 3  # of a task whose node or process has died
SECONDS = 10.0  # between looks whether any node is left

Shard = tuple[np.ndarray, list[Found]]  # pixels (n, H, W, C), and what was found out about each image


def read_shard(
    locations: Sequence[Location | None],
    sizes: dict[str, int],
    image_size: tuple[int, int],
    decoding: tuple[Any, ...],
    made: str,
) -> Shard:
    """Decode images, in a task. Raises InputError, naming this node, if its files or versions are not the driver's."""
    node, how = f"--engine ray: node {platform.node()}", Decoding(*decoding)
    if made != made_with(how):
        raise InputError(f"{node} would decode otherwise than this machine: install the same code and versions there")
    for file, size in sizes.items():
        found = os.path.getsize(file) if os.path.exists(file) else None
        if found != size:
            what = "does not see" if found is None else "has another file as"
            raise InputError(f"{node} {what} {file}; share or copy the input folder")
    cv2.setNumThreads(1)
    images = np.zeros((len(locations), *image_size, how.channels), how.dtype)
    with bounded_memory():
        return images, [read_one(location, image, how) for location, image in zip(locations, images, strict=True)]


def _task(ray: Any) -> Any:
    """Return the remote function: it returns what is wrong with its node, or nothing, and a shard."""

    # It uses nothing of this module, which a node cannot import before it knows where the code is.
    @ray.remote(num_cpus=1, max_retries=RETRIES)
    def run(code: str, locations: list[tuple[Any, ...] | None], *arguments: Any) -> tuple[str, Any]:
        import platform
        import sys

        sys.path[:0] = [code] * (code not in sys.path)
        try:
            from src.core.errors import InputError
            from src.core.zips import Location
            from src.data.ray_decoding import read_shard
        except ImportError as error:
            return f"--engine ray: node {platform.node()}: {error}; install this program there, in {code}", None
        try:
            return "", read_shard([None if one is None else Location(*one) for one in locations], *arguments)
        except InputError as error:
            return str(error), None

    return run


def _sizes(locations: Sequence[Location | None], archives: dict[str, int]) -> dict[str, int]:
    """Return the size of each file that holds an image; those of zips are kept in `archives`."""
    sizes = {}
    for location in locations:
        if location and location.member and location.file not in archives:
            archives[location.file] = os.path.getsize(location.file)
        if location:
            sizes[location.file] = archives[location.file] if location.member else location.size
    return sizes


def _received(ray: Any, reference: Any) -> Shard:
    """Wait for a task. Raises InputError if its node is unfit, it failed for good, or no node is left."""
    while not ray.wait([reference], timeout=SECONDS)[0]:
        if num_cluster_cores(ray) < 1:
            raise InputError("--engine ray: no node of the cluster is left; run the same command again")
    try:
        problem, shard = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(f"--engine ray: decoding failed for good after {RETRIES} retries: {reason}") from error
    if problem:
        raise InputError(problem)
    result: Shard = shard
    return result


def on_ray(jobs: Jobs, ray: Any) -> Iterator[list[Found]]:
    """Yield what is found out about the images, shard by shard in order, and write their pixels.

    Twice as many tasks as cores are under way, so the object store never holds more than their shards.
    """
    count, cores, archives = len(jobs.locations), num_cluster_cores(ray), dict[str, int]()
    if cores < 1:
        raise InputError("--engine ray: the cluster has no core; add nodes to it")
    if not count:
        return
    images = np.load(jobs.file, mmap_mode="r+")
    fair = max(MIN_SHARD, -(-count // (SHARDS_PER_CORE * cores)))
    size = max(1, min(SHARD_IMAGES, fair, SHARD_BYTES // images[0].nbytes))
    task, made, waiting = _task(ray), made_with(jobs.how), deque[tuple[int, Any]]()

    def written(start: int, reference: Any) -> list[Found]:
        pixels, found = _received(ray, reference)
        images[start : start + size] = pixels
        return found

    try:
        for start in range(0, count, size):
            locations = jobs.locations[start : start + size]
            plain = [location and tuple(location) for location in locations]
            sizes = _sizes(locations, archives)
            waiting.append((start, task.remote(CODE, plain, sizes, images.shape[1:3], tuple(jobs.how), made)))
            if len(waiting) == 2 * cores:
                yield written(*waiting.popleft())
        while waiting:
            yield written(*waiting.popleft())
    finally:
        for _, reference in waiting:
            ray.cancel(reference, force=True)
