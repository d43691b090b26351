"""Copies of a image: exact ones by their pixels; near ones (resized, re-encoded, flipped, cropped by up to a tenth)
by the nearest of their low frequencies, then by a look at the pixels, aligned.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from src.data.alignment import align
from src.data.cache import Reading

POLICY = 2  # raise when other pairs may be found: what prepare has kept is then found anew
SMALL = 32  # side of the images whose frequencies are taken
GREY_WAVES, COLOUR_WAVES = 6, 3  # frequencies along each side
FARTHEST = 0.5  # of two unit vectors of frequencies that may show the same
TABLES, WINDOW, FILL = 24, 8, 8  # random orders in which neighbours are sought; how far; how many share a key
NEAREST = 4  # candidates for each image, at most
COARSE, FINE = 12, 32  # sides of the images that are aligned
CHUNK = 256  # pairs aligned, or images described, at a time
BLOCK = 1 << 15  # neighbours compared at a time: what they need stays in a core's cache
MAX_UNLIKE = 0.03  # 1 less the correlation of the aligned grey images
MIN_UNLIKE = 0.003  # what MAX_UNLIKE may sink to where images are much alike by nature
USUAL_UNLIKE = 0.45  # of the first tenth of candidates, among photographs
MIN_CANDIDATES = 200  # fewer tell nothing about what images are like
MIN_DETAIL = 0.7  # of what a blur takes away from them
MIN_OVERLAP = 0.7
MAX_CONTRAST = 4 / 3  # of one over the other
MAX_BRIGHTNESS = 20.0  # grey levels apart
MIN_CONTRAST = 4.0  # grey levels; flatter images say too little to be called copies


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
    """Return the lists of rows whose decoded pixels are the same."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, reading in enumerate(readings):
        if not reading.problem:
            rows[reading.pixels].append(row)
    return [same for same in rows.values() if len(same) > 1]


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first cosine waves (GREY_WAVES, SMALL), and weights and hflip signs of a vector of frequencies."""
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
    """Rows whose images are not flat, and what is remembered of them, so that the cache is read once."""

    rows: np.ndarray  # (n,)
    vectors: np.ndarray  # (2n, F) float32 unit vectors of low frequencies, then those of the flipped images
    small: np.ndarray  # (n, COARSE, COARSE) uint16: red + green + blue


def _describe(images: np.ndarray, rows: np.ndarray) -> _Described:
    cosines, weights, signs = _frequencies()
    kept, vectors, coarse = [], [], []
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        whole = [images[row] for row in some]
        small = np.stack([_shrunk(image, SMALL) for image in whole]).astype(np.float32)
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
        kept.append(some[clear])
        vectors.append(np.concatenate(parts, axis=1) * weights)
        coarse.append(np.stack([_shrunk(image, COARSE) for image in whole])[clear].sum(axis=3, dtype=np.uint16))
    both = np.concatenate([*vectors, *vectors])
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
    both[len(both) // 2 :] *= signs
    return _Described(np.concatenate(kept), both, np.concatenate(coarse))


class _Nearest:
    """The nearest others offered for each row so far."""

    def __init__(self, num_rows: int) -> None:
        self.other = np.full((num_rows, NEAREST), -1, np.int64)
        self.distance = np.full((num_rows, NEAREST), FARTHEST**2, np.float32)
        self.worst = np.full(num_rows, FARTHEST**2, np.float32)

    def offer(self, rows: np.ndarray, others: np.ndarray, distance: np.ndarray) -> None:
        """Take what is nearer than the worst kept. No row may be there twice."""
        better = distance < self.worst[rows]
        rows, others, distance = rows[better], others[better], distance[better]
        new = ~(self.other[rows] == others[:, None]).any(axis=1)
        rows, others, distance = rows[new], others[new], distance[new]
        place = self.distance[rows].argmax(axis=1)
        self.other[rows, place], self.distance[rows, place] = others, distance
        self.worst[rows] = self.distance[rows].max(axis=1)


def _keys(both: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each vector the sides of the planes (F, 1 + bits) on which it lies as a number, and a place in line.

    Each plane lies so that half of the vectors, by a sample, are on either side.
    """
    middle = np.median(both[:: max(1, len(both) // BLOCK)] @ normals[:, 1:], axis=0)
    bits = 1 << np.arange(len(middle))
    keys, places = np.empty(len(both), np.int64), np.empty(len(both), np.float32)
    for start in range(0, len(both), BLOCK):
        block = slice(start, start + BLOCK)
        found = both[block] @ normals
        keys[block], places[block] = (found[:, 1:] > middle) @ bits, found[:, 0]
    return keys, places


def _candidates(both: np.ndarray) -> np.ndarray:
    """Return (P, 3) int64: two rows whose frequencies (2n, F) lie near each other, and whether one is to be flipped.

    Locality-sensitive hashing: in each of some random orders, rows with the same key are compared with the next few, so
    the work grows in proportion to the number of rows.
    """
    count, rng = len(both) // 2, np.random.default_rng(0)
    num_bits = max(1, int(np.ceil(np.log2(max(2, len(both) / FILL)))))
    nearest = _Nearest(count)
    for _ in tqdm(range(TABLES), desc="near copies", disable=None):
        keys, places = _keys(both, rng.standard_normal((both.shape[1], num_bits + 1)).astype(np.float32))
        order = np.lexsort((places, keys))
        for start in range(0, len(order), BLOCK):
            some = order[start : start + BLOCK + WINDOW]
            block_keys, ordered = keys[some], both[some]
            for step in range(1, min(WINDOW, len(some) - 1) + 1):
                one, other = some[:-step][:BLOCK], some[step:][:BLOCK]
                met = (block_keys[step:] == block_keys[:-step])[:BLOCK]
                met &= ((one < count) | (other < count)) & (one % count != other % count)
                at = np.flatnonzero(met)
                distance = 2 - 2 * np.einsum("ij,ij->i", ordered[at], ordered[at + step])
                for rows, others in ((one[at], other[at]), (other[at], one[at])):
                    plain = rows < count
                    nearest.offer(rows[plain], others[plain], distance[plain])
    rows, places = np.nonzero(nearest.other >= 0)
    others = nearest.other[rows, places]
    pairs = np.stack([np.minimum(rows, others % count), np.maximum(rows, others % count), others // count], axis=1)
    return np.unique(pairs, axis=0)


def _hflip(pictures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return float32 grey levels of images (P, side, side) of summed colours, flipped where the pair says so."""
    grey = pictures.astype(np.float32) / 3
    flipped = pairs[:, 2].astype(bool)
    grey[flipped] = grey[flipped][:, :, ::-1]
    return grey


def _first_sight(described: _Described, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how unlike pairs (P, 3), places in `described`, are when aligned coarsely (P,), and the warps (P, 4)."""
    one, other = described.small[pairs[:, 0]], described.small[pairs[:, 1]]
    found = align(one.astype(np.float32) / 3, _hflip(other, pairs), steps=4)
    return 1 - found.correlation, found.warp


def _close_look(images: np.ndarray, pairs: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Return how unlike pairs (P, 3) are when aligned finely (P,): infinite where something speaks against a copy."""
    one, other = (
        np.stack([_shrunk(images[row], FINE) for row in rows]).sum(axis=3, dtype=np.uint16) for rows in pairs.T[:2]
    )
    found = align(one.astype(np.float32) / 3, _hflip(other, pairs), warp, steps=4, detail=True)
    sound = (
        (found.detail >= MIN_DETAIL)
        & (found.overlap >= MIN_OVERLAP)
        & (np.abs(np.log(found.contrast)) <= np.log(MAX_CONTRAST))
        & (np.abs(found.brightness) <= MAX_BRIGHTNESS)
    )
    return np.where(sound, 1 - found.correlation, np.inf)


def _allowed(first_sight: np.ndarray) -> float:
    """Return how unlike copies may be, given how unlike all candidates are at first sight.

    Silhouettes and digits are alike without being copies: the more so, the more alike copies must be.
    """
    if len(first_sight) < MIN_CANDIDATES:
        return MAX_UNLIKE
    share = max(0.0, float(np.quantile(first_sight, 0.9))) / USUAL_UNLIKE
    return max(MIN_UNLIKE, MAX_UNLIKE * min(1.0, share) ** 1.5)


def near_duplicates(readings: Sequence[Reading], images: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of rows that show the same image resized, re-encoded, flipped, cropped or slightly changed.

    `images` is the cache, (N, H, W, 3) uint8. Of exact copies only the first is looked at.
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
    looks = [_first_sight(described, some) for some in tqdm(chunks, desc="aligning", disable=None)]
    first_sight, warps = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    pairs[:, :2] = described.rows[pairs[:, :2]]
    allowed = _allowed(first_sight)
    likely = np.flatnonzero(first_sight <= 0.1 * (allowed / MAX_UNLIKE) ** 0.5)
    duplicates = []
    for start in range(0, len(likely), CHUNK):
        some = likely[start : start + CHUNK]
        duplicates += pairs[some][_close_look(images, pairs[some], warps[some]) <= allowed].tolist()
    return sorted({(one, other) for one, other, _ in duplicates})


def group_duplicates(groups: Sequence[str] | None, pairs: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """Return a group number for each row: rows of one given group, and copies, share theirs. (N,) int64."""
    union = Groups(size)
    first: dict[str, int] = {}
    for row, group in enumerate(groups if groups is not None else ()):
        union.join(first.setdefault(group, row), row)
    for one, other in pairs:
        union.join(one, other)
    return np.array([union.find(row) for row in range(size)], dtype=np.int64)
