"""Duplicates are found after resizing, re-encoding, flipping or cropping, and different images are not grouped."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from src.data import candidates, duplicates
from src.data.alignment import align
from src.data.duplicates import exact_duplicates, group_duplicates, near_duplicates
from src.data.facts import Reading
from src.data.images import resize
from tests.fixtures import DrawImage

SIZE = (48, 64)
FLIPS_ALL = np.full(53, -1, np.float32)


def photo(seed: int) -> np.ndarray:
    """Return an image (90, 120, 3) with coarse shapes and fine detail, like a photograph."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 1, (rows, rows, 3)), (120, 90), interpolation=cv2.INTER_CUBIC) * strength
        for rows, strength in ((3, 40), (6, 30), (14, 20), (30, 12))
    ]
    return np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)


def near(images: list[np.ndarray]) -> list[tuple[int, int]]:
    """Find near-duplicates as prepare does, in the cache."""
    readings = [Reading("", "", str(i)) for i in range(len(images))]
    return near_duplicates(readings, np.stack([resize(np.ascontiguousarray(image), SIZE) for image in images]))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "resized": lambda image: cv2.resize(image, (70, 50), interpolation=cv2.INTER_AREA),
    "re-encoded": lambda image: jpeg(image, 50),
    "lighter": lambda image: cv2.convertScaleAbs(image, alpha=0.95, beta=6),
    "flipped": lambda image: image[:, ::-1],
    "cropped at the top left": lambda image: image[5:, 6:],
    "cropped on every side": lambda image: image[4:-4, 6:-6],
    "flipped, cropped, re-encoded": lambda image: jpeg(np.ascontiguousarray(image[2:-3, 5:-1][:, ::-1]), 60),
}


@pytest.mark.parametrize("among", [10, 150])
@pytest.mark.parametrize("kind", COPIES)
def test_a_near_duplicate_is_found_among_others(kind: str, among: int) -> None:
    others = [photo(seed) for seed in range(among)]
    assert near([*others, COPIES[kind](others[3])]) == [(3, among)]
    assert near([COPIES[kind](others[7]), *others]) == [(0, 8)]


def test_all_near_duplicates_of_an_image_are_in_one_group() -> None:
    images = [photo(seed) for seed in range(30)]
    images += [make(images[4]) for make in COPIES.values()]
    group = group_duplicates(None, near(images), len(images))
    assert np.flatnonzero(group == group[4]).tolist() == [4, *range(30, 37)]


def test_different_images_are_not_grouped(draw_image: DrawImage) -> None:
    assert near([photo(seed) for seed in range(200)]) == []
    assert near([draw_image(seed) for seed in range(100)]) == []


def test_the_same_shapes_with_different_detail_are_not_duplicates() -> None:
    coarse = cv2.GaussianBlur(photo(1), (0, 0), 4).astype(int)
    similar = [np.clip(coarse + photo(seed) // 3 - 42, 0, 255).astype(np.uint8) for seed in range(2, 9)]
    assert near(similar) == []


@pytest.mark.parametrize("change", [lambda image: image // 2, lambda image: image // 2 + 127], ids=["dim", "pale"])
def test_another_exposure_is_not_a_duplicate(change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert near([photo(1), change(photo(1))]) == []


def test_the_limit_is_stricter_if_all_images_are_similar() -> None:
    photographs, digits, silhouettes, same = (np.full(1000, difference) for difference in (0.5, 0.2, 0.1, 0.0))
    limits = [duplicates._max_difference(coarse) for coarse in (photographs, digits, silhouettes, same)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] == duplicates.MAX_DIFFERENCE > limits[1] > limits[2] > limits[3]
    assert limits[3] == duplicates.LOWEST_MAX_DIFFERENCE
    assert duplicates._max_difference(silhouettes[:50]) == duplicates.MAX_DIFFERENCE  # too few to tell
    half = np.concatenate([np.full(600, 0.01), np.full(400, 0.5)])  # a data set full of duplicates
    assert duplicates._max_difference(half) == duplicates.MAX_DIFFERENCE


def test_flat_images_are_not_duplicates() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((48, 64, 3), level, np.uint8) for level in (0, 90, 200)]
    noisy = [rng.integers(100, 104, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    assert near([*flat, *flat, *noisy]) == []
    assert near([*flat, photo(1)]) == []


def test_the_order_of_the_cache_does_not_matter() -> None:
    images = [photo(seed) for seed in range(300)]
    images += [np.full((90, 120, 3), seed, np.uint8) for seed in range(20)]
    images += [make(images[5 * i]) for i, make in enumerate(COPIES.values())]
    table = np.stack([resize(np.ascontiguousarray(image), SIZE) for image in images])
    rows = np.random.default_rng(0).permutation(len(table))  # of the cache
    cache = np.empty_like(table)
    cache[rows] = table
    one, other = candidates.describe(table, np.arange(len(table))), candidates.describe(cache, rows)
    assert len(one.positions) == 307
    assert all(np.array_equal(array, same) for array, same in zip(one, other, strict=True))
    assert len(near(images)) == 7
    readings = [Reading("", "", str(i)) for i in range(len(table))]
    assert near_duplicates(readings, cache, rows=rows) == near(images)


def test_unreadable_images_are_not_duplicates() -> None:
    readings = [Reading("truncated", "", ""), Reading("", "", "a"), Reading("empty", "", "")]
    assert exact_duplicates(readings) == []
    assert near_duplicates(readings, np.stack([photo(1)] * 3)) == []


def test_exact_duplicates_are_listed_together_and_compared_once() -> None:
    readings = [Reading("", "", pixels) for pixels in "abacab"]
    assert exact_duplicates(readings) == [[0, 2, 4], [1, 5]]
    images = [photo(1), photo(2), photo(1), photo(1)[:, ::-1], photo(1), photo(2)]
    assert near_duplicates(readings, np.stack(images)) == [(0, 3)]


def test_the_number_of_candidates_is_limited_if_all_images_are_similar() -> None:
    vectors = np.tile(np.eye(1, 53, dtype=np.float32), (3000, 1))
    vectors += np.random.default_rng(0).normal(0, 1e-3, vectors.shape).astype(np.float32)
    pairs = candidates.candidates(vectors, FLIPS_ALL)
    assert 3000 <= len(pairs) <= 3000 * candidates.MAX_CANDIDATES


@pytest.mark.parametrize("block", range(21, 29))
def test_pairs_across_block_edges_are_found(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(1, 53, dtype=np.float32) + np.random.default_rng(0).normal(0, 0.01, (20, 53)).astype(np.float32)
    monkeypatch.setattr(candidates, "TABLES", 1)
    expected = candidates.candidates(vectors, FLIPS_ALL)
    assert len(expected) > 20
    monkeypatch.setattr(candidates, "BLOCK", block)
    np.testing.assert_array_equal(candidates.candidates(vectors, FLIPS_ALL), expected)


def test_alignment_finds_stretch_and_shift() -> None:
    large = cv2.resize(photo(3), (96, 96)).astype(np.float32).mean(axis=2)
    first, second = (cv2.resize(part, (32, 32), interpolation=cv2.INTER_AREA) for part in (large[4:, :90], large))
    found = align(first[None], second[None], steps=8, detail=True)
    assert found.warp[0] == pytest.approx([90 / 96, -6 / 96, 92 / 96, 4 / 96], abs=0.01)
    assert found.correlation[0] > 0.99
    assert found.detail[0] > 0.9
    assert found.contrast[0] == pytest.approx(1, abs=0.05)
    assert found.brightness[0] == pytest.approx(0, abs=2)


def test_chains_of_duplicates_and_given_groups_are_merged() -> None:
    assert group_duplicates(None, [], 3).tolist() == [0, 1, 2]
    assert group_duplicates(None, [(1, 2), (4, 2)], 6).tolist() == [0, 1, 1, 3, 1, 5]
    assert group_duplicates(["p", "q", "p", "r"], [(1, 2)], 4).tolist() == [0, 0, 0, 3]
