"""Test-time augmentation: the label-safe views of an image, made on the CPU or on the GPU."""

import numpy as np
import torch

from src.data.augment import warp
from src.data.device import warp_on_device
from src.data.transform import affine_matrices


def tta_views(hflip_ok: bool, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the label-safe views of test-time augmentation by name, each a (2, 3) matrix; the original is first."""
    names = ["original", "left", "right", "zoom in", "zoom out"]
    zoom = np.array([1, 1, 1, 1.06, 0.94])
    shift = np.array([0, -1, 1, 0, 0]) * max(1, round(0.03 * size[1]))  # whole pixels, which does not blur
    hflip = np.zeros(5, dtype=bool)
    if hflip_ok:  # every view and its horizontal flip
        names += [f"{name}, flipped" for name in names]
        zoom, shift, hflip = np.tile(zoom, 2), np.tile(shift, 2), np.repeat([False, True], 5)
    zero, one = np.zeros(len(names)), np.ones(len(names))
    matrices = affine_matrices(
        size, angle=zero, zoom=zoom, ratio=one, shear=zero, shift_x=shift, shift_y=zero, hflip=hflip
    )
    return dict(zip(names, matrices, strict=True))


def warp_batch(images: np.ndarray, matrix: np.ndarray, hflip_ok: bool) -> np.ndarray:
    """Return (B, H, W, C) images all warped by one view's matrix."""
    out = np.empty_like(images)
    for image, warped in zip(images, out, strict=True):
        warp(image, matrix, hflip_ok, warped)
    return out


def warped(images: torch.Tensor, matrix: np.ndarray, hflip_ok: bool) -> torch.Tensor:
    """Return one view of (B, H, W, C) images, made on their device: by opencv on a CPU, in one pass on a GPU."""
    if images.device.type == "cpu":
        return torch.from_numpy(warp_batch(images.numpy(), matrix, hflip_ok))
    return warp_on_device(images, matrix, hflip_ok)
