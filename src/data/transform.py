"""Geometry and colours of a batch of images: one affine warp and one 3x4 colour matrix each."""

from dataclasses import dataclass, field

import numpy as np

WHITE = 255.0  # of ordinary pictures
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(kw_only=True)
class Transform:
    """What is done to each image of a batch (B), as the entries fill it in."""

    size: tuple[int, int]  # height and width in pixels
    index: np.ndarray  # (B,) which image it is
    seed: int
    epoch: int
    white: float = WHITE  # what brightness and the like are shares of
    boxes: np.ndarray | None = None  # (B, 4) around all characters, in shares of the image: left, top, right, bottom
    angle: np.ndarray = field(init=False)  # (B,) radians
    zoom: np.ndarray = field(init=False)  # (B,) factor
    ratio: np.ndarray = field(init=False)  # (B,) factor on width / height
    shear: np.ndarray = field(init=False)  # (B,) radians
    shift_x: np.ndarray = field(init=False)  # (B,) pixels
    shift_y: np.ndarray = field(init=False)  # (B,) pixels
    hflip: np.ndarray = field(init=False)  # (B,) bool
    saturation: np.ndarray = field(init=False)  # (B,) factor
    contrast: np.ndarray = field(init=False)  # (B,) factor
    added: np.ndarray = field(init=False)  # (B, 3) share of white added to each channel
    inverted: np.ndarray = field(init=False)  # (B,) bool
    window: np.ndarray | None = field(init=False, default=None)  # (B, 4) the part that is shown, like boxes; None: all

    def __post_init__(self) -> None:
        count = len(self.index)
        self.angle, self.shear, self.shift_x, self.shift_y = (np.zeros(count) for _ in range(4))
        self.zoom, self.ratio, self.saturation, self.contrast = (np.ones(count) for _ in range(4))
        self.hflip, self.inverted = np.zeros(count, bool), np.zeros(count, bool)
        self.added = np.zeros((count, 3))

    def matrices(self) -> np.ndarray:
        """Return (B, 2, 3) float64 affine matrices from output to input pixels."""
        matrices = affine_matrices(
            self.size,
            angle=self.angle,
            zoom=self.zoom,
            ratio=self.ratio,
            shear=self.shear,
            shift_x=self.shift_x,
            shift_y=self.shift_y,
            hflip=self.hflip,
        )
        return matrices if self.window is None else within(matrices, self.window, self.size)

    def colours(self) -> np.ndarray:
        """Return (B, 3, 4) float64 from RGB and 1 to RGB: saturation, contrast about mid-grey, added, inversion."""
        saturation, contrast = self.saturation[:, None, None], self.contrast[:, None, None]
        linear = contrast * (saturation * np.eye(3) + (1 - saturation) * LUMA)
        offset = self.white / 2 * (1 - self.contrast)[:, None] + self.white * self.added
        linear = np.where(self.inverted[:, None, None], -linear, linear)
        offset = np.where(self.inverted[:, None], self.white - offset, offset)
        return np.concatenate([linear, offset[:, :, None]], axis=2)


def affine_matrices(
    size: tuple[int, int],
    *,
    angle: np.ndarray,
    zoom: np.ndarray,
    ratio: np.ndarray,
    shear: np.ndarray,
    shift_x: np.ndarray,
    shift_y: np.ndarray,
    hflip: np.ndarray,
) -> np.ndarray:
    """Return (B, 2, 3) float64 matrices from output to input pixels, about the image's centre.

    angle and shear in radians, zoom and ratio as factors, shifts in pixels, hflip as bool; each (B,).
    """
    height, width = size
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(angle), np.sin(angle)
    # The output is scaled by zoom, so the way back divides by it.
    scale_x, scale_y = 1 / (zoom * np.sqrt(ratio)), np.sqrt(ratio) / zoom
    scale_x = np.where(hflip, -scale_x, scale_x)
    linear = np.empty((len(angle), 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = scale_x * cos, scale_x * (sin + np.tan(shear) * cos)
    linear[:, 1, 0], linear[:, 1, 1] = -scale_y * sin, scale_y * (cos - np.tan(shear) * sin)
    shift = np.stack([shift_x, shift_y], axis=1)
    offset = center - np.einsum("bij,bj->bi", linear, center + shift)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def within(matrices: np.ndarray, windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (B, 2, 3) matrices to the pixels of whole images, from those to parts of them that fill the same size.

    windows (B, 4) in shares of an image of `size`: left, top, right and bottom.
    """
    scale, start = windows[:, 2:] - windows[:, :2], windows[:, :2] * [size[1], size[0]]
    made = matrices * scale[:, :, None]
    made[:, :, 2] += start + scale / 2 - 0.5  # a pixel's centre is its number
    return made
