"""Copies of a picture are found though resized or re-encoded, and unlike pictures are left apart."""

import cv2
import numpy as np
import pytest

from src.data.cache import Reading
from src.data.duplicates import exact_copies, group_copies, near_copies
from src.data.images import perceptual_hash, resize

SIZE = (48, 64)


def near(images: list[np.ndarray]) -> list[tuple[int, int]]:
    """Find the near copies as prepare does: hashes of the full pictures, thumbnails from the cache."""
    readings = [Reading("", "", str(i), perceptual_hash(image)) for i, image in enumerate(images)]
    return near_copies(readings, np.stack([resize(image, SIZE) for image in images]))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_a_resized_or_re_encoded_copy_is_found_among_others(picture) -> None:
    others = [picture(seed, (90, 120)) for seed in range(30)]
    resized = cv2.resize(others[3], (70, 50), interpolation=cv2.INTER_AREA)
    re_encoded = jpeg(others[7], 60)
    lighter = cv2.convertScaleAbs(others[11], alpha=0.95, beta=6)
    assert sorted(near([*others, resized, re_encoded, lighter])) == [(3, 30), (7, 31), (11, 32)]


def test_different_pictures_are_not_grouped(picture) -> None:
    assert near([picture(seed) for seed in range(100)]) == []


def test_flat_pictures_are_not_copies_of_each_other() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((48, 64, 3), level, np.uint8) for level in (0, 90, 200)]
    noisy = [rng.integers(100, 104, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    assert near([*flat, *flat, *noisy]) == []


def test_a_mirror_image_is_not_a_copy(picture) -> None:
    assert near([picture(1), picture(1)[:, ::-1].copy()]) == []


def test_the_same_hash_alone_does_not_make_a_copy(picture) -> None:
    alike = cv2.addWeighted(picture(1), 0.7, picture(2), 0.3, 0)  # they correlate by 0.9
    images = [*(picture(seed) for seed in range(1, 9)), alike]
    readings = [Reading("", "", str(i), 12345) for i in range(9)]
    assert near_copies(readings, np.stack(images)) == []


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_hashes_up_to_three_bits_apart_are_candidates(picture, bits: int) -> None:
    # One bit in each 16-bit band: the pair shares a band only while one is left untouched.
    other = sum(1 << 16 * band for band in range(bits))
    readings = [Reading("", "", "a", 0), Reading("", "", "b", other)]
    found = near_copies(readings, np.stack([picture(1), picture(1)]))
    assert found == ([(0, 1)] if bits <= 3 else [])


def test_unreadable_pictures_are_nobodys_copies(picture) -> None:
    readings = [Reading("truncated", "", "", 0), Reading("", "", "a", 5), Reading("empty", "", "", 0)]
    assert exact_copies(readings) == []
    assert near_copies(readings, np.stack([picture(1)] * 3)) == []


def test_exact_copies_are_listed_together() -> None:
    readings = [Reading("", "", pixels, 0) for pixels in "abacab"]
    assert exact_copies(readings) == [[0, 2, 4], [1, 5]]


def test_copies_of_copies_and_given_groups_end_in_one_group() -> None:
    assert group_copies(None, [], 3).tolist() == [0, 1, 2]
    assert group_copies(None, [(1, 2), (4, 2)], 6).tolist() == [0, 1, 1, 3, 1, 5]
    assert group_copies(["p", "q", "p", "r"], [(1, 2)], 4).tolist() == [0, 0, 0, 3]
