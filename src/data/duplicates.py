"""Find duplicates: exact ones by their pixels; near ones (resized, re-encoded, flipped, cropped by up to a tenth) by
nearest neighbours in low frequencies, then by comparing the aligned pixels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from src.core.progress import Progress
from src.data.alignment import align
from src.data.candidates import Described, candidates, describe, shrunk, unpacked
from src.data.facts import Reading, Readings
from src.data.levels import Pictures, as_pictures
from src.data.pixels import Images

POLICY = 2  # increase when the pairs found may change: it invalidates the pairs that prepare has saved
FINE = 32  # side in pixels of the images that are aligned finely
CHUNK = 256  # pairs aligned at a time
MAX_COARSE = 0.1  # 1 - correlation of the coarsely aligned images, beyond which a pair is not aligned finely
MAX_DIFFERENCE = 0.03  # 1 - correlation of the aligned grey images
LOWEST_MAX_DIFFERENCE = 0.003  # lower bound of the limit if all images of a data set are similar
TYPICAL_DIFFERENCE = 0.45  # 90% quantile of the candidates' coarse differences among photographs
MIN_CANDIDATES = 200  # too few say nothing about the data set
MIN_DETAIL = 0.7  # correlation of the high frequencies
MIN_OVERLAP = 0.7
MAX_CONTRAST = 4 / 3  # ratio
MAX_BRIGHTNESS = 20.0  # difference in grey levels


def exact_duplicates(readings: Sequence[Reading]) -> list[list[int]]:
    """Return lists of rows with identical decoded pixels."""
    rows, begins = _columns(readings).same_pixels()
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(rows))
    several = ends - starts > 1
    found = [rows[start:end].tolist() for start, end in zip(starts[several], ends[several], strict=True)]
    return sorted(found, key=lambda same: same[0])


def _columns(readings: Sequence[Reading]) -> Readings:
    return readings if isinstance(readings, Readings) else Readings.of(readings, len(readings))


def _hflip(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return float32 grey levels of images (P, side, side) of summed channels, flipped if the pair says so."""
    grey = images.astype(np.float32) / 3
    flipped = pairs[:, 2].astype(bool)
    grey[flipped] = grey[flipped][:, :, ::-1]
    return grey


def _coarse_difference(small: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the differences (P,) and warps (P, 4) of pairs (P, 3) of rows of `small`, coarsely aligned."""
    one, other = small[pairs[:, 0]], small[pairs[:, 1]]
    found = align(one.astype(np.float32) / 3, _hflip(other, pairs), steps=4)
    return 1 - found.correlation, found.warp


def _fine_difference(images: Images | Pictures, rows: np.ndarray, pairs: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Return the differences (P,) of pairs (P, 3) of readings, finely aligned; infinite if a check rules a pair out."""
    one, other = (
        np.stack([shrunk(images[row], FINE) for row in rows[numbers]]).sum(axis=3, dtype=np.uint16)
        for numbers in pairs.T[:2]
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


def near_duplicates(
    readings: Sequence[Reading],
    images: Images,
    search: Callable[[np.ndarray, np.ndarray], np.ndarray] = candidates,
    rows: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """Return pairs of readings whose images are the same: resized, re-encoded, flipped, cropped or slightly changed.

    `images` is the cache, (N, H, W, C), and `rows` its row of each reading, (N,), if it has another order. Of
    exact duplicates only the first is compared. `search` finds the pairs that are compared, see `candidates`.
    """
    compared, begins = _columns(readings).same_pixels()
    compared = np.sort(compared[begins])
    if len(compared) < 2:
        return []
    rows = np.arange(len(readings)) if rows is None else rows
    seen = as_pictures(images)
    described = describe(seen, rows[compared])
    compared = compared[described.positions]
    if len(compared) < 2:
        return []
    packed = search(described.vectors, described.signs)
    if not len(packed):
        return []
    coarse, likely, warps = _aligned(described, packed)
    limit = _max_difference(coarse)
    chosen = coarse[likely] <= MAX_COARSE * (limit / MAX_DIFFERENCE) ** 0.5
    likely, warps = likely[chosen], warps[chosen]
    duplicates = []
    for start in range(0, len(likely), CHUNK):
        pairs = unpacked(packed[likely[start : start + CHUNK]], len(compared))
        pairs[:, :2] = compared[pairs[:, :2]]
        found = _fine_difference(seen, rows, pairs, warps[start : start + CHUNK]) <= limit
        duplicates += pairs[found].tolist()
    return sorted({(one, other) for one, other, _ in duplicates})


def _aligned(described: Described, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coarse differences (P,) of all pairs; which of them may be duplicates (p,), and their warps (p, 4)."""
    differences, likely, warps = np.empty(len(packed), np.float32), [], []
    with Progress("aligning near-duplicates", len(packed), "pairs") as progress:
        for start in range(0, len(packed), CHUNK):
            pairs = unpacked(packed[start : start + CHUNK], len(described.positions))
            difference, warp = _coarse_difference(described.small, pairs)
            differences[start : start + CHUNK] = difference
            near = np.flatnonzero(difference <= MAX_COARSE)
            likely.append(start + near)
            warps.append(warp[near])
            progress.update(len(pairs))
    return differences, np.concatenate(likely), np.concatenate(warps)


def group_duplicates(groups: Sequence[str] | None, pairs: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """Return a group number (N,) int64 for each row; rows of one given group share it, and so do duplicates.

    It is the group's first row.
    """
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    if groups is not None:
        codes, names = pd.factorize(np.asarray(groups, dtype=object))
        first = np.full(len(names), size)
        np.minimum.at(first, codes, np.arange(size))
        edges = np.concatenate([edges, np.stack([first[codes], np.arange(size)], axis=1)])
    ones = np.ones(len(edges), bool)
    _, component = connected_components(coo_array((ones, edges.T), shape=(size, size)), directed=False)
    first = np.full(size, size)
    np.minimum.at(first, component, np.arange(size))
    return first[component]
