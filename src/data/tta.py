"""Test-time augmentation: the label-safe views of an image, made on the CPU or on the GPU."""

import numpy as np
import torch

from src.data.augment import warp
from src.data.device import resize_on_device, warp_on_device
from src.data.images import resize
from src.data.transform import affine_matrices

SIZES = {"smaller": 0.8, "larger": 1.25}  # views of the whole image that the network sees at another size
View = np.ndarray | tuple[int, int]  # an affine matrix (2, 3), or the height and width that an image is resized to


def sized_view(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a view of another size, multiples of 8."""
    height, width = (max(8, 8 * round(SIZES[name] * side / 8)) for side in size)
    return height, width


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


def warped(images: torch.Tensor, view: View, hflip_ok: bool) -> torch.Tensor:
    """Return one view of (B, H, W, C) images, made on their device: by opencv on a CPU, in one pass on a GPU."""
    on_cpu = images.device.type == "cpu"
    if isinstance(view, tuple):
        if on_cpu:
            return torch.from_numpy(np.stack([resize(image, view) for image in images.numpy()]))
        return resize_on_device(images, view)
    if on_cpu:
        return torch.from_numpy(warp_batch(images.numpy(), view, hflip_ok))
    return warp_on_device(images, view, hflip_ok)
