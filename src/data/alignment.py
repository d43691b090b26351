"""Align batches of small image pairs by stretch and shift, and measure how well they agree."""

from typing import NamedTuple

import cv2
import numpy as np

MAX_STRETCH, MAX_SHIFT = 1.25, 0.25  # a shift of 1 is half a side


class Agreement(NamedTuple):
    """For each pair (P,): the stretch and shift found, and how similar the images are where they overlap."""

    warp: np.ndarray  # (P, 4): stretch and shift along x, then along y
    correlation: np.ndarray
    detail: np.ndarray  # correlation of high frequencies (image minus its blur); 0 if not requested
    overlap: np.ndarray  # share of the first image that the second covers
    contrast: np.ndarray  # second / first
    brightness: np.ndarray  # second - first, grey levels


def _sampling(positions: np.ndarray, side: int) -> np.ndarray:
    """Return (P, n, side) weights: row i interpolates a line of `side` pixels linearly at positions[:, i]."""
    return np.maximum(0, 1 - np.abs(positions[:, :, None] - np.arange(side, dtype=np.float32)))


def _centred(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values (P, n) minus their mean inside the mask and 0 outside, and the means (P,)."""
    mean = (values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return (values - mean[:, None]) * mask, mean


def _detail(first: np.ndarray, second: np.ndarray, side: int) -> np.ndarray:
    """Return the correlation (P,) of the images' high frequencies, without a border of 2 pixels."""
    correlation = np.zeros(len(first), np.float32)
    for i, pair in enumerate(zip(first, second, strict=True)):
        one, other = (
            (image - cv2.GaussianBlur(image, (0, 0), 1.5))[2:-2, 2:-2]
            for image in (flat.reshape(side, side) for flat in pair)
        )
        correlation[i] = (one * other).sum() / (np.sqrt((one * one).sum() * (other * other).sum()) + 1e-6)
    return correlation


def align(
    first: np.ndarray, second: np.ndarray, warp: np.ndarray | None = None, steps: int = 5, detail: bool = False
) -> Agreement:
    """Stretch and shift `second` onto `first`, both (P, side, side) float32 grey levels, starting from `warp` (P, 4).

    Gauss-Newton steps on the squared difference, with contrast and brightness as free parameters (Lucas and Kanade,
    1981).
    """
    num_pairs, side, _ = first.shape
    half = np.float32((side - 1) / 2)
    grid = ((np.arange(side) - half) / half).astype(np.float32)
    current = np.tile(np.array([1, 0, 1, 0], np.float32), (num_pairs, 1)) if warp is None else warp.copy()
    slope_y, slope_x = (np.gradient(second, axis=axis) * half for axis in (1, 2))
    for step in range(steps + 1):
        along_x, along_y = current[:, 0:1] * grid + current[:, 1:2], current[:, 2:3] * grid + current[:, 3:4]
        to_x = _sampling((along_x + 1) * half, side).transpose(0, 2, 1)
        to_y = _sampling((along_y + 1) * half, side)
        inside = (np.abs(along_y) <= 1)[:, :, None] & (np.abs(along_x) <= 1)[:, None, :]
        mask = inside.reshape(num_pairs, -1).astype(np.float32)
        one, mean = _centred(first.reshape(num_pairs, -1), mask)
        other, other_mean = _centred((to_y @ second @ to_x).reshape(num_pairs, -1), mask)
        if step < steps:
            current = current + _correction(one, other, to_y @ slope_x @ to_x, to_y @ slope_y @ to_x, grid, mask)
            current[:, 0::2] = np.clip(current[:, 0::2], 1 / MAX_STRETCH, MAX_STRETCH)
            current[:, 1::2] = np.clip(current[:, 1::2], -MAX_SHIFT, MAX_SHIFT)
    power, other_power = (one * one).sum(axis=1), (other * other).sum(axis=1)
    return Agreement(
        warp=current,
        correlation=(one * other).sum(axis=1) / (np.sqrt(power * other_power) + 1e-6),
        detail=_detail(one, other, side) if detail else np.zeros(num_pairs, np.float32),
        overlap=mask.mean(axis=1),
        contrast=np.sqrt(other_power / (power + 1e-6)),
        brightness=other_mean - mean,
    )


def _correction(
    one: np.ndarray, other: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray, grid: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return the update of the warp (P, 4): least squares over its four numbers, contrast and brightness."""
    flat = [
        (slope_x * grid[None, None, :]), slope_x, (slope_y * grid[None, :, None]), slope_y,
    ]  # fmt: skip
    columns = np.stack([*(slope.reshape(one.shape) for slope in flat), other, np.ones_like(other)], axis=1)
    columns *= mask[:, None]
    normal = columns @ columns.transpose(0, 2, 1)
    diagonal = np.einsum("pii->pi", normal)
    diagonal *= 1.01  # damping, in place
    diagonal += 1e-3
    solved = np.linalg.solve(normal, columns @ one[:, :, None])[:, :, 0]
    contrast = np.clip(solved[:, 4:5], 0.3, 3)
    return np.clip(solved[:, :4] / contrast, -0.1, 0.1)
