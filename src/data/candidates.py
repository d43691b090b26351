"""Candidates for near duplicates: the nearest neighbours of each image in low frequencies, flipped or not.

What the search holds of each image lies in files without a name beside the cache and is read through a map, so that ten
million images need not fit into the memory.
"""

import tempfile
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np

from src.core.progress import Progress
from src.data.levels import Pictures
from src.data.pixels import Images, Pixels

SMALL = 32  # side in pixels of the images whose frequencies are taken
GREY_WAVES, COLOUR_WAVES = 6, 3  # number of frequencies along each side
MAX_DISTANCE = 0.5  # between the unit frequency vectors of two candidates
TABLES, WINDOW, BUCKET_SIZE = 24, 8, 8  # hash tables; following rows compared; mean rows per key
MAX_CANDIDATES = 4  # per image
COARSE = 12  # side in pixels of the images that are aligned first
CHUNK = 256  # images described at a time
BLOCK = 1 << 15  # rows compared at a time: they fit into a core's cache
MAX_COPY = 16 << 20  # bytes of images copied out of the cache at a time
MIN_CONTRAST = 4.0  # standard deviation in grey levels; flatter images are never called duplicates


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image (side, side, 3) uint8."""
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cosine basis (GREY_WAVES, SMALL), and the weights and hflip signs (F,) of a frequency vector."""
    waves = np.arange(GREY_WAVES)
    cosines = np.cos(np.pi * waves[:, None] * (2 * np.arange(SMALL) + 1) / (2 * SMALL)) * np.sqrt(2 / SMALL)
    weights, signs = [], []
    for count, first in ((GREY_WAVES, 1), (COLOUR_WAVES, 0), (COLOUR_WAVES, 0)):  # grey without its mean
        y, x = np.mgrid[:count, :count]
        norm = np.where(y == 0, 0.5**0.5, 1) * np.where(x == 0, 0.5**0.5, 1)
        weights.append((norm * np.exp(-(x * x + y * y) / 18)).ravel()[first:])
        signs.append(np.where(x % 2, -1.0, 1.0).ravel()[first:])
    return cosines.astype(np.float32), *(np.concatenate(parts).astype(np.float32) for parts in (weights, signs))


class _OnDisk:
    """Rows in a file without a name, written once and then read through a map, so that they need not stay in memory."""

    def __init__(self, file: IO[bytes], row_shape: tuple[int, ...], dtype: type) -> None:
        self.file, self.row_shape, self.dtype, self.count = file, row_shape, dtype, 0

    @classmethod
    def reordered(cls, stored: np.ndarray, order: np.ndarray, folder: Path | None) -> np.ndarray:
        """Return rows of a map in another order, in another file; the map itself if they are in order."""
        if (order == np.arange(len(stored))).all():
            return stored
        with tempfile.TemporaryFile(dir=folder) as file:
            other = cls(file, stored.shape[1:], stored.dtype.type)
            for start in range(0, len(order), BLOCK):
                other.add(stored[order[start : start + BLOCK]])
            return other.array()

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, *row_shape). Raises OSError if the disk is full."""
        self.file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.count += len(rows)

    def array(self) -> np.ndarray:
        """Return all rows (N, *row_shape), read-only; they outlive the open file."""
        if not self.count:
            return np.empty((0, *self.row_shape), self.dtype)
        self.file.flush()
        return np.asarray(np.memmap(self.file, self.dtype, "r", shape=(self.count, *self.row_shape)))


class Described(NamedTuple):
    """The images that are not flat, with all that later stages need, so that the cache is read once."""

    positions: np.ndarray  # (n,) ascending: which of the rows that were given
    vectors: np.ndarray  # (n, F) float32: unit vectors of low frequencies, on disk
    signs: np.ndarray  # (F,) float32: times a vector, that of the flipped image
    small: np.ndarray  # (n, COARSE, COARSE) uint16: red + green + blue, on disk


def _vectors(images: list[np.ndarray], weights: np.ndarray, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which images (B,) bool are not flat, and their unit vectors (b, F) float32."""
    small = np.stack([shrunk(image, SMALL) for image in images]).astype(np.float32)
    red, green, blue = np.moveaxis(small, 3, 0)
    grey = (red + green + blue) / 3
    clear = grey.std(axis=(1, 2)) >= MIN_CONTRAST
    planes = [
        (grey, GREY_WAVES, 1),
        ((red - blue) / 2, COLOUR_WAVES, 0),
        ((red + blue) / 4 - green / 2, COLOUR_WAVES, 0),
    ]
    parts = [
        (cosines[:count] @ plane[clear] @ cosines[:count].T).reshape(-1, count * count)[:, first:]
        for plane, count, first in planes
    ]
    vectors = np.concatenate(parts, axis=1) * weights
    return clear, vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def describe(images: Images | Pictures, rows: np.ndarray) -> Described:
    """Return what the search needs of some rows of the cache, without those whose images are flat.

    The cache is read in its own order, whatever that of the rows.
    """
    cosines, weights, signs = _frequencies()
    stored = images.images if isinstance(images, Pictures) else images
    folder = stored.file.parent if isinstance(stored, Pixels) else None
    order, kept = np.argsort(rows), [np.zeros(0, np.int64)]
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        vectors, coarse = _OnDisk(one, (len(weights),), np.float32), _OnDisk(other, (COARSE, COARSE), np.uint16)
        for start in range(0, len(rows), CHUNK):
            chunk = order[start : start + CHUNK]
            full = _images(images, rows[chunk])
            clear, found = _vectors(full, weights, cosines)
            kept.append(chunk[clear])
            vectors.add(found)
            coarse.add(np.stack([shrunk(image, COARSE) for image in full])[clear].sum(axis=3, dtype=np.uint16))
        positions = np.concatenate(kept)
        back = np.argsort(positions)
        small = _OnDisk.reordered(coarse.array(), back, folder)
        return Described(positions[back], _OnDisk.reordered(vectors.array(), back, folder), signs, small)


def _images(images: Images | Pictures, rows: np.ndarray) -> list[np.ndarray]:
    """Return images, (H, W, 3) each: copied together if they are small, which is quicker."""
    size = int(np.prod(images.shape[1:]))
    return list(images[rows]) if size * len(rows) <= MAX_COPY else [images[row] for row in rows.tolist()]


class _Candidates:
    """The nearest other rows offered so far, for each row."""

    def __init__(self, num_rows: int) -> None:
        self.other = np.full((num_rows, MAX_CANDIDATES), -1, np.int32 if num_rows < 2**30 else np.int64)
        self.distance = np.full((num_rows, MAX_CANDIDATES), MAX_DISTANCE**2, np.float32)
        self.worst = np.full(num_rows, MAX_DISTANCE**2, np.float32)

    def offer(self, rows: np.ndarray, others: np.ndarray, distance: np.ndarray) -> None:
        """Keep pairs that are nearer than the worst kept so far; `rows` must be unique."""
        better = distance < self.worst[rows]
        rows, others, distance = rows[better], others[better], distance[better]
        new = ~(self.other[rows] == others[:, None]).any(axis=1)
        rows, others, distance = rows[new], others[new], distance[new]
        slot = self.distance[rows].argmax(axis=1)
        self.other[rows, slot], self.distance[rows, slot] = others, distance
        self.worst[rows] = self.distance[rows].max(axis=1)


class _Both:
    """The vectors of images, (2n, F): rows from n on are those of the flipped images."""

    def __init__(self, vectors: np.ndarray, signs: np.ndarray) -> None:
        self.vectors, self.signs = vectors, signs

    def __len__(self) -> int:
        return 2 * len(self.vectors)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        count = len(self.vectors)
        picked = self.vectors[rows % count]
        picked[rows >= count] *= self.signs
        return picked


def _keys(both: _Both, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each vector's hash, one bit per plane of `normals` (F, 1 + bits), and its order along the first normal.

    Each plane splits the vectors in half, as estimated from a sample.
    """
    sample = np.arange(0, len(both), max(1, len(both) // BLOCK))
    middle = np.median(both[sample] @ normals[:, 1:], axis=0)
    bits = (1 << np.arange(len(middle))).astype(np.int32)
    keys, ranks = np.empty(len(both), np.int32), np.empty(len(both), np.float32)
    count = len(both.vectors)
    for start in range(0, count, BLOCK):
        block = both.vectors[start : start + BLOCK]
        for first, turned in ((start, normals), (start + count, normals * both.signs[:, None])):
            projected = block @ turned
            rows = slice(first, first + len(block))
            keys[rows], ranks[rows] = (projected[:, 1:] > middle) @ bits, projected[:, 0]
    return keys, ranks


def candidates(vectors: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return (P,) int64 ascending: pairs of rows with similar frequencies (n, F), for `unpacked`.

    Locality-sensitive hashing: in each table, rows with the same key are compared with the next few, so the time is
    linear in the number of rows.
    """
    both, count, rng = _Both(vectors, signs), len(vectors), np.random.default_rng(0)
    num_bits = max(1, int(np.ceil(np.log2(max(2, len(both) / BUCKET_SIZE)))))
    nearest = _Candidates(count)
    with Progress("searching near-duplicates", TABLES, "passes") as progress:
        for _ in range(TABLES):
            keys, ranks = _keys(both, rng.standard_normal((vectors.shape[1], num_bits + 1)).astype(np.float32))
            order = np.lexsort((ranks, keys))
            for start in range(0, len(order), BLOCK):
                block = order[start : start + BLOCK + WINDOW]
                _compare(both, block, keys[block], nearest)
            progress.update()
    packed = [np.zeros(0, np.int64)]
    for slot in range(MAX_CANDIDATES):
        rows = np.flatnonzero(nearest.other[:, slot] >= 0)
        others = nearest.other[rows, slot].astype(np.int64)
        low, high = np.minimum(rows, others % count), np.maximum(rows, others % count)
        packed.append((low * count + high) * 2 + others // count)
    return np.unique(np.concatenate(packed))


def _compare(both: _Both, block: np.ndarray, keys: np.ndarray, nearest: _Candidates) -> None:
    """Offer the neighbours in a block of ordered rows that have the same key; the last WINDOW rows begin no pair."""
    count, ordered = len(both.vectors), both[block]
    for step in range(1, min(WINDOW, len(block) - 1) + 1):
        one, other = block[:-step][:BLOCK], block[step:][:BLOCK]
        match = (keys[step:] == keys[:-step])[:BLOCK]
        match &= ((one < count) | (other < count)) & (one % count != other % count)
        at = np.flatnonzero(match)
        distance = 2 - 2 * np.einsum("ij,ij->i", ordered[at], ordered[at + step])
        for rows, others in ((one[at], other[at]), (other[at], one[at])):
            unflipped = rows < count
            nearest.offer(rows[unflipped], others[unflipped], distance[unflipped])


def unpacked(packed: np.ndarray, count: int) -> np.ndarray:
    """Return (P, 3) int64: two of `count` rows, and whether one of them is to be flipped."""
    return np.stack([packed // 2 // count, packed // 2 % count, packed % 2], axis=1)
