"""How bright bands are: means and spreads for the network, white for random changes, pictures for people.

Two satellites' or scanners' files use different parts of 16 bits, so all of this is taken from the training cache.
"""

from typing import Any, NamedTuple

import numpy as np

from src.data.pixels import Images

SAMPLE_IMAGES, SAMPLE_BYTES = 512, 16 << 20  # at most; the first rows, as those of train are in a random order
BRIGHT = 99  # per cent of the values that are darker than what counts as white


class Levels(NamedTuple):
    """Of each channel the mean and standard deviation, as shares of the largest number; and what counts as white."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float


def is_picture(images: Any) -> bool:
    """Return whether images (N, H, W, C), in an array or a cache, are ordinary ones: RGB of 8 bits."""
    return bool(images.dtype == np.uint8 and images.shape[3] == 3)


def levels_of(images: Images) -> Levels:
    """Return the levels of a cache, from its first images that are not black."""
    most, channels = np.iinfo(images.dtype).max, images.shape[3]
    row = int(np.prod(images.shape[1:])) * images.dtype.itemsize
    sample = images[: max(1, min(SAMPLE_IMAGES, SAMPLE_BYTES // row))]
    sample = sample[sample.any(axis=(1, 2, 3))]
    if not len(sample):
        return Levels((0.5,) * channels, (0.25,) * channels, float(most))
    values = sample.reshape(-1, channels)
    mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    white = max(1.0, float(np.floor(np.percentile(values, BRIGHT))))
    return Levels(_shares(mean / most), _shares(np.maximum(std, 1) / most), white)


def _shares(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 8) for value in values)


class Pictures:
    """Bands as grey pictures (N, H, W, 3) uint8, their mean, made as they are read: for the duplicate search."""

    def __init__(self, images: Images) -> None:
        self.images, self.scale = images, 255 / levels_of(images).white
        self.shape = (*images.shape[:3], 3)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> np.ndarray:
        grey = self.images[index].mean(axis=-1, dtype=np.float32) * self.scale
        return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def as_pictures(images: Images) -> Images | Pictures:
    """Return ordinary images as they are, and bands as grey pictures."""
    return images if is_picture(images) else Pictures(images)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return (K, H, W, 3) uint8 to look at: the first three bands or the first one in grey, each image up to white."""
    if is_picture(images):
        return images
    shown = images[..., :3] if images.shape[3] >= 3 else np.repeat(images[..., :1], 3, axis=3)
    out = np.zeros(shown.shape, np.uint8)
    for image, seen in zip(out, shown, strict=True):
        image[:] = np.clip(seen * (255 / max(1.0, float(np.percentile(seen, BRIGHT)))), 0, 255)
    return out
