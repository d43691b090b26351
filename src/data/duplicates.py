"""Copies of a picture: exact ones by their pixels, near ones by perceptual hash and a look at the pixels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from src.data.cache import Reading

BITS_APART = 3  # four 16-bit bands hold every such pair, so not all pairs are compared
BUCKET_NEIGHBOURS = 32  # within a full bucket only neighbours in hash order are compared: never quadratic
MIN_CORRELATION = 0.98  # of the two 24x24 RGB thumbnails about their means
MIN_CONTRAST = 4.0  # grey levels; flatter pictures say too little to be called copies


class Groups:
    """Union-find over rows."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low


def exact_copies(readings: Sequence[Reading]) -> list[list[int]]:
    """Return the lists of rows whose decoded pixels are the same."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, reading in enumerate(readings):
        if not reading.problem:
            rows[reading.pixels].append(row)
    return [same for same in rows.values() if len(same) > 1]


def _candidates(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose 64-bit hashes differ in at most BITS_APART bits."""
    seen: set[tuple[int, int]] = set()
    for band in range(4):
        keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        keys, sorted_hashes = keys[order], hashes[order]
        for step in range(1, min(BUCKET_NEIGHBOURS, len(order) - 1) + 1):
            same_key = keys[step:] == keys[:-step]
            apart = np.bitwise_count(sorted_hashes[step:] ^ sorted_hashes[:-step])
            for place in np.flatnonzero(same_key & (apart <= BITS_APART)):
                pair = (int(order[place]), int(order[place + step]))
                pair = (min(pair), max(pair))
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _thumbnail(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    return small - small.mean()


def near_copies(readings: Sequence[Reading], images: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of rows that show the same picture resized, re-encoded or slightly changed.

    `images` is the cache, (N, H, W, 3) uint8. A pair counts when the hashes are at most BITS_APART apart and the
    thumbnails correlate by MIN_CORRELATION or more.
    """
    rows = np.array([row for row, reading in enumerate(readings) if not reading.problem], dtype=np.int64)
    if len(rows) < 2:
        return []
    hashes = np.array([readings[row].phash for row in rows], dtype=np.uint64)
    pairs = []
    for one, other in _candidates(hashes):
        first, second = _thumbnail(images[rows[one]]), _thumbnail(images[rows[other]])
        norms = float(np.linalg.norm(first) * np.linalg.norm(second))
        flat = min(first.std(), second.std()) < MIN_CONTRAST
        if not flat and float(first @ second) >= MIN_CORRELATION * norms:
            pairs.append((int(rows[one]), int(rows[other])))
    return pairs


def group_copies(groups: Sequence[str] | None, pairs: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """Return a group number for each row: rows of one given group, and copies, share theirs. (N,) int64."""
    union = Groups(size)
    first: dict[str, int] = {}
    for row, group in enumerate(groups if groups is not None else ()):
        union.join(first.setdefault(group, row), row)
    for one, other in pairs:
        union.join(one, other)
    return np.array([union.find(row) for row in range(size)], dtype=np.int64)
