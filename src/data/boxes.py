"""Boxes of a string's characters, from the originals' pixels to those of a cache."""

from collections.abc import Sequence

import numpy as np

from src.competitions.boxes import read_boxes
from src.competitions.spec import Fit
from src.data.images import placement

NARROWEST = 1e-3  # pixels


def all_boxed(there: np.ndarray, boxes: np.ndarray, least: float) -> np.ndarray:
    """Return (N,) bool: each character has a box with sides of at least `least` pixels, and nothing else has one.

    there (N, num_positions) bool: where a character is; boxes (N, num_positions, 4) in pixels, NaN for none.
    """
    large = (boxes[..., 2:] - boxes[..., :2] >= least).all(axis=-1)  # NaN is not
    boxed = np.isfinite(boxes).all(axis=-1)
    return (there == boxed).all(axis=1) & (large | ~there).all(axis=1) & there.any(axis=1)


def around_all(there: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (N, 4): the box around all characters of each image, in shares of an image of `size`.

    there and boxes as in all_boxed; NaN where some character has no box.
    """
    known = there[..., None]
    start = np.where(known, boxes[..., :2], np.inf).min(axis=1)
    end = np.where(known, boxes[..., 2:], -np.inf).max(axis=1)
    around = np.concatenate([start, end], axis=1) / [size[1], size[0], size[1], size[0]]
    return np.where(all_boxed(there, boxes, NARROWEST)[:, None], around, np.nan)


def boxes_in_cache(
    texts: Sequence[str],
    image_paths: Sequence[str],
    shapes: np.ndarray,
    size: tuple[int, int],
    fit: Fit,
    num_positions: int,
) -> np.ndarray:
    """Return (N, num_positions, 4) float: left, top, right and bottom in pixels of a cache of `size`, within its image.

    texts are the cells of the labels' column boxes, shapes (N, 2) heights and widths of what they lie in. NaN for
    positions without a box, and for images whose size is not known. Raises InputError for a cell that holds no boxes.
    """
    found = np.full((len(texts), num_positions, 4), np.nan)
    for row, (text, path) in enumerate(zip(texts, image_paths, strict=True)):
        boxes = read_boxes(text, path)[:num_positions]
        height, width = (int(side) for side in shapes[row])
        if not len(boxes) or not height or not width:
            continue
        seen, shown = placement((height, width), size, fit)
        start, end = np.array([seen.left, seen.top] * 2), np.array([shown.left, shown.top] * 2)
        factor = np.array([shown.width / seen.width, shown.height / seen.height] * 2)
        limits = np.array([shown.width, shown.height] * 2)
        found[row, : len(boxes)] = np.clip((boxes - start) * factor, 0, limits) + end
    return found
