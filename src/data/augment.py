"""Random changes applied to images on the CPU: two opencv calls an image, then what changes single pixels.

What is done to an image is drawn in augmentations.py, keyed on (seed, epoch, image): the same whatever the batch, the
number of threads or a resume.
"""

import cv2
import numpy as np

from src.data.augmentations import PIXEL_CHANGES, AugmentParams
from src.data.images import by_fours
from src.data.levels import is_picture


def warp(image: np.ndarray, matrix: np.ndarray, hflip_ok: bool, out: np.ndarray) -> None:
    """Warp one (H, W, C) image into `out`. What lies outside repeats the edge, or its reflection if reflections
    are label-safe.

    Three channels go through a fourth: opencv warps four channels in half the time of three, to the same bits
    (benchmarks/loader.py).
    """
    border = cv2.BORDER_REFLECT_101 if hflip_ok else cv2.BORDER_REPLICATE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if image.shape[2] != 3:
        size = (image.shape[1], image.shape[0])

        def warped_part(part: np.ndarray) -> np.ndarray:
            channels = part.shape[2]
            if channels == 2:  # which opencv warps coarsely, by up to 7 of 255 levels off
                part = np.concatenate([part, part[..., :1]], axis=2)
            moved = cv2.warpAffine(part, matrix, size, flags=flags, borderMode=border)
            return moved[..., :2] if channels == 2 else moved

        out[:] = by_fours(image, size[::-1], warped_part)
        return
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, matrix, (image.shape[1], image.shape[0]), flags=flags, borderMode=border)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)


def _recolour_bands(image: np.ndarray, colours: np.ndarray, dst: np.ndarray) -> None:
    """Apply contrast and brightness of a colour matrix (3, 4) to all bands alike."""
    dst[:] = cv2.addWeighted(image, colours[0, 0], image, 0.0, colours[0, 3]).reshape(dst.shape)


def augment_batch(images: np.ndarray, params: AugmentParams, hflip_ok: bool) -> np.ndarray:
    """Return changed copies of (B, H, W, C) images."""
    out = np.empty_like(images)
    moved, recoloured = (
        (matrices != np.eye(*matrices.shape[1:])).any(axis=(1, 2)) for matrices in (params.matrices, params.colours)
    )
    recolour = cv2.transform if is_picture(images) else _recolour_bands
    changes = [(PIXEL_CHANGES[name].on_image, numbers) for name, numbers in params.pixels.items()]
    between = np.empty(images.shape[1:], images.dtype)
    for i, image in enumerate(images):
        source = image
        if moved[i]:
            source = between if recoloured[i] else out[i]
            warp(image, params.matrices[i], hflip_ok, source)
        if recoloured[i]:
            recolour(source, params.colours[i], dst=out[i])
        elif not moved[i]:
            out[i] = source
        for change, numbers in changes:
            assert change
            change(out[i], numbers[i])
    return out
