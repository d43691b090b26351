"""How well two small images agree once one is stretched and shifted onto the other, for many pairs at a time."""

from typing import NamedTuple

import cv2
import numpy as np

STRETCH, SHIFT = 1.25, 0.25  # the most that is tried; a shift of 1 is half a side


class Agreement(NamedTuple):
    """Of each pair (P,): found stretch and shift, and how alike the images are where they lie over each other."""

    warp: np.ndarray  # (P, 4) stretch and shift along x, then along y
    correlation: np.ndarray
    detail: np.ndarray  # correlation of what a blur takes away; 0 where not asked for
    overlap: np.ndarray  # share of the first image that the second covers
    contrast: np.ndarray  # of the second over the first
    brightness: np.ndarray  # grey levels by which the second is lighter


def _sampling(at: np.ndarray, side: int) -> np.ndarray:
    """Return (P, n, side): row i samples a line of `side` pixels at position at[:, i], linearly."""
    return np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)))


def _centred(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values (P, n) about their mean inside the mask, 0 outside, and the means (P,)."""
    mean = (values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return (values - mean[:, None]) * mask, mean


def _detail(first: np.ndarray, second: np.ndarray, side: int) -> np.ndarray:
    found = np.zeros(len(first), np.float32)
    for i, pair in enumerate(zip(first, second, strict=True)):
        one, other = (
            (picture - cv2.GaussianBlur(picture, (0, 0), 1.5))[2:-2, 2:-2]
            for picture in (flat.reshape(side, side) for flat in pair)
        )
        found[i] = (one * other).sum() / (np.sqrt((one * one).sum() * (other * other).sum()) + 1e-6)
    return found


def align(
    first: np.ndarray, second: np.ndarray, warp: np.ndarray | None = None, steps: int = 5, detail: bool = False
) -> Agreement:
    """Stretch and shift `second` onto `first`, both (P, side, side) float32 grey levels, beginning at `warp` (P, 4).

    Gauss-Newton steps on the squared difference, contrast and brightness free (Lucas and Kanade, 1981).
    """
    num_pairs, side, _ = first.shape
    half = np.float32((side - 1) / 2)
    grid = ((np.arange(side) - half) / half).astype(np.float32)
    found = np.tile(np.array([1, 0, 1, 0], np.float32), (num_pairs, 1)) if warp is None else warp.copy()
    slope_y, slope_x = (np.gradient(second, axis=axis) * half for axis in (1, 2))
    for step in range(steps + 1):
        along_x, along_y = found[:, 0:1] * grid + found[:, 1:2], found[:, 2:3] * grid + found[:, 3:4]
        to_x = _sampling((along_x + 1) * half, side).transpose(0, 2, 1)
        to_y = _sampling((along_y + 1) * half, side)
        inside = (np.abs(along_y) <= 1)[:, :, None] & (np.abs(along_x) <= 1)[:, None, :]
        mask = inside.reshape(num_pairs, -1).astype(np.float32)
        one, mean = _centred(first.reshape(num_pairs, -1), mask)
        other, other_mean = _centred((to_y @ second @ to_x).reshape(num_pairs, -1), mask)
        if step < steps:
            found = found + _correction(one, other, to_y @ slope_x @ to_x, to_y @ slope_y @ to_x, grid, mask)
            found[:, 0::2] = np.clip(found[:, 0::2], 1 / STRETCH, STRETCH)
            found[:, 1::2] = np.clip(found[:, 1::2], -SHIFT, SHIFT)
    power, other_power = (one * one).sum(axis=1), (other * other).sum(axis=1)
    return Agreement(
        warp=found,
        correlation=(one * other).sum(axis=1) / (np.sqrt(power * other_power) + 1e-6),
        detail=_detail(one, other, side) if detail else np.zeros(num_pairs, np.float32),
        overlap=mask.mean(axis=1),
        contrast=np.sqrt(other_power / (power + 1e-6)),
        brightness=other_mean - mean,
    )


def _correction(
    one: np.ndarray, other: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray, grid: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return what to add to the warp (P, 4): least squares over its four numbers, contrast and brightness."""
    flat = [
        (slope_x * grid[None, None, :]), slope_x, (slope_y * grid[None, :, None]), slope_y,
    ]  # fmt: skip
    columns = np.stack([*(slope.reshape(one.shape) for slope in flat), other, np.ones_like(other)], axis=1)
    columns *= mask[:, None]
    normal = columns @ columns.transpose(0, 2, 1)
    diagonal = np.einsum("pii->pi", normal)
    diagonal *= 1.01  # damped, in place
    diagonal += 1e-3
    solved = np.linalg.solve(normal, columns @ one[:, :, None])[:, :, 0]
    contrast = np.clip(solved[:, 4:5], 0.3, 3)
    return np.clip(solved[:, :4] / contrast, -0.1, 0.1)
