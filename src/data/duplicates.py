"""Find duplicates: exact ones by their pixels; near ones (resized, re-encoded, flipped, cropped by up to a tenth) by
nearest neighbours in low frequencies, then by comparing the aligned pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from src.data.alignment import align
from src.data.cache import Reading
from src.data.pixels import Images

POLICY = 2  # increase when the pairs found may change: it invalidates the pairs that prepare has saved
SMALL = 32  # side in pixels of the images whose frequencies are taken
GREY_WAVES, COLOUR_WAVES = 6, 3  # number of frequencies along each side
MAX_DISTANCE = 0.5  # between the unit frequency vectors of two candidates
TABLES, WINDOW, BUCKET_SIZE = 24, 8, 8  # hash tables; following rows compared; mean rows per key
MAX_CANDIDATES = 4  # per image
COARSE, FINE = 12, 32  # sides in pixels of the images that are aligned
CHUNK = 256  # pairs aligned, or images described, at a time
BLOCK = 1 << 15  # rows compared at a time: they fit into a core's cache
MAX_DIFFERENCE = 0.03  # 1 - correlation of the aligned grey images
LOWEST_MAX_DIFFERENCE = 0.003  # lower bound of the limit if all images of a data set are similar
TYPICAL_DIFFERENCE = 0.45  # 90% quantile of the candidates' coarse differences among photographs
MIN_CANDIDATES = 200  # too few say nothing about the data set
MIN_DETAIL = 0.7  # correlation of the high frequencies
MIN_OVERLAP = 0.7
MAX_CONTRAST = 4 / 3  # ratio
MAX_BRIGHTNESS = 20.0  # difference in grey levels
MIN_CONTRAST = 4.0  # standard deviation in grey levels; flatter images are never called duplicates


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


def exact_duplicates(readings: Sequence[Reading]) -> list[list[int]]:
    """Return lists of rows with identical decoded pixels."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, reading in enumerate(readings):
        if not reading.problem:
            rows[reading.pixels].append(row)
    return [same for same in rows.values() if len(same) > 1]


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
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


class _Described(NamedTuple):
    """Rows whose images are not flat, with all that later stages need, so that the cache is read once."""

    rows: np.ndarray  # (n,)
    vectors: np.ndarray  # (2n, F) float32: unit vectors of low frequencies, then those of the flipped images
    small: np.ndarray  # (n, COARSE, COARSE) uint16: red + green + blue


def _describe(images: Images, rows: np.ndarray) -> _Described:
    cosines, weights, signs = _frequencies()
    kept, vectors, coarse = [], [], []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        full = [images[row] for row in chunk]
        small = np.stack([_shrunk(image, SMALL) for image in full]).astype(np.float32)
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
        kept.append(chunk[clear])
        vectors.append(np.concatenate(parts, axis=1) * weights)
        coarse.append(np.stack([_shrunk(image, COARSE) for image in full])[clear].sum(axis=3, dtype=np.uint16))
    both = np.concatenate([*vectors, *vectors])
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
    both[len(both) // 2 :] *= signs
    return _Described(np.concatenate(kept), both, np.concatenate(coarse))


class _Candidates:
    """The nearest other rows offered so far, for each row."""

    def __init__(self, num_rows: int) -> None:
        self.other = np.full((num_rows, MAX_CANDIDATES), -1, np.int64)
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


def _keys(both: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each vector's hash, one bit per plane of `normals` (F, 1 + bits), and its order along the first normal.

    Each plane splits the vectors in half, as estimated from a sample.
    """
    middle = np.median(both[:: max(1, len(both) // BLOCK)] @ normals[:, 1:], axis=0)
    bits = 1 << np.arange(len(middle))
    keys, ranks = np.empty(len(both), np.int64), np.empty(len(both), np.float32)
    for start in range(0, len(both), BLOCK):
        block = slice(start, start + BLOCK)
        projected = both[block] @ normals
        keys[block], ranks[block] = (projected[:, 1:] > middle) @ bits, projected[:, 0]
    return keys, ranks


def _candidates(both: np.ndarray) -> np.ndarray:
    """Return (P, 3) int64: two rows with similar frequencies (2n, F), and whether one of them is to be flipped.

    Locality-sensitive hashing: in each table, rows with the same key are compared with the next few, so the time is
    linear in the number of rows.
    """
    count, rng = len(both) // 2, np.random.default_rng(0)
    num_bits = max(1, int(np.ceil(np.log2(max(2, len(both) / BUCKET_SIZE)))))
    nearest = _Candidates(count)
    for _ in tqdm(range(TABLES), desc="near-duplicates", disable=None):
        keys, ranks = _keys(both, rng.standard_normal((both.shape[1], num_bits + 1)).astype(np.float32))
        order = np.lexsort((ranks, keys))
        for start in range(0, len(order), BLOCK):
            block = order[start : start + BLOCK + WINDOW]
            block_keys, ordered = keys[block], both[block]
            for step in range(1, min(WINDOW, len(block) - 1) + 1):
                one, other = block[:-step][:BLOCK], block[step:][:BLOCK]
                match = (block_keys[step:] == block_keys[:-step])[:BLOCK]
                match &= ((one < count) | (other < count)) & (one % count != other % count)
                at = np.flatnonzero(match)
                distance = 2 - 2 * np.einsum("ij,ij->i", ordered[at], ordered[at + step])
                for rows, others in ((one[at], other[at]), (other[at], one[at])):
                    unflipped = rows < count
                    nearest.offer(rows[unflipped], others[unflipped], distance[unflipped])
    rows, slots = np.nonzero(nearest.other >= 0)
    others = nearest.other[rows, slots]
    pairs = np.stack([np.minimum(rows, others % count), np.maximum(rows, others % count), others // count], axis=1)
    return np.unique(pairs, axis=0)


def _hflip(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return float32 grey levels of images (P, side, side) of summed channels, flipped if the pair says so."""
    grey = images.astype(np.float32) / 3
    flipped = pairs[:, 2].astype(bool)
    grey[flipped] = grey[flipped][:, :, ::-1]
    return grey


def _coarse_difference(described: _Described, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the differences (P,) and warps (P, 4) of pairs (P, 3) of indices into `described`, coarsely aligned."""
    one, other = described.small[pairs[:, 0]], described.small[pairs[:, 1]]
    found = align(one.astype(np.float32) / 3, _hflip(other, pairs), steps=4)
    return 1 - found.correlation, found.warp


def _fine_difference(images: Images, pairs: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Return the differences (P,) of pairs (P, 3) of rows, finely aligned; infinite if a check rules a pair out."""
    one, other = (
        np.stack([_shrunk(images[row], FINE) for row in rows]).sum(axis=3, dtype=np.uint16) for rows in pairs.T[:2]
    )
    found = align(one.astype(np.float32) / 3, _hflip(other, pairs), warp, steps=4, detail=True)
    plausible = (
        (found.detail >= MIN_DETAIL)
        & (found.overlap >= MIN_OVERLAP)
        & (np.abs(np.log(found.contrast)) <= np.log(MAX_CONTRAST))
        & (np.abs(found.brightness) <= MAX_BRIGHTNESS)
    )
    return np.where(plausible, 1 - found.correlation, np.inf)


def _max_difference(coarse: np.ndarray) -> float:
    """Return the largest difference between duplicates, given the coarse differences of all candidates.

    Silhouettes and digits are similar without being duplicates: the more similar a data set's images are, the stricter
    the limit.
    """
    if len(coarse) < MIN_CANDIDATES:
        return MAX_DIFFERENCE
    share = max(0.0, float(np.quantile(coarse, 0.9))) / TYPICAL_DIFFERENCE
    return max(LOWEST_MAX_DIFFERENCE, MAX_DIFFERENCE * min(1.0, share) ** 1.5)


def near_duplicates(readings: Sequence[Reading], images: Images) -> list[tuple[int, int]]:
    """Return pairs of rows that show the same image resized, re-encoded, flipped, cropped or slightly changed.

    `images` is the cache, (N, H, W, 3) uint8. Of exact duplicates only the first is compared.
    """
    firsts = {reading.pixels: row for row, reading in reversed(list(enumerate(readings))) if not reading.problem}
    rows = np.array(sorted(firsts.values()), dtype=np.int64)
    if len(rows) < 2:
        return []
    described = _describe(images, rows)
    if len(described.rows) < 2:
        return []
    pairs = _candidates(described.vectors)
    if not len(pairs):
        return []
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    results = [_coarse_difference(described, chunk) for chunk in tqdm(chunks, desc="aligning", disable=None)]
    coarse, warps = (np.concatenate(parts) for parts in zip(*results, strict=True))
    pairs[:, :2] = described.rows[pairs[:, :2]]
    limit = _max_difference(coarse)
    likely = np.flatnonzero(coarse <= 0.1 * (limit / MAX_DIFFERENCE) ** 0.5)
    duplicates = []
    for start in range(0, len(likely), CHUNK):
        chunk = likely[start : start + CHUNK]
        duplicates += pairs[chunk][_fine_difference(images, pairs[chunk], warps[chunk]) <= limit].tolist()
    return sorted({(one, other) for one, other, _ in duplicates})


def group_duplicates(groups: Sequence[str] | None, pairs: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """Return a group number (N,) int64 for each row; rows of one given group share it, and so do duplicates."""
    union = Groups(size)
    first: dict[str, int] = {}
    for row, group in enumerate(groups if groups is not None else ()):
        union.join(first.setdefault(group, row), row)
    for one, other in pairs:
        union.join(one, other)
    return np.array([union.find(row) for row in range(size)], dtype=np.int64)
