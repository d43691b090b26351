"""Label-safe random changes of uint8 images, and the fixed views of test-time augmentation.

Every sample's draws are keyed on (seed, epoch, image): the same whatever the batch, the number of threads or a resume.
Geometry is one affine warp and colour one 3x4 matrix, so that a sample costs two opencv calls. Heavier effects (blur,
noise, JPEG) come from albumentations when `effects` is set.
"""

import os
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

NUM_DRAWS = 16  # uniforms per sample
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strengths of the random changes; 0 is none."""

    rotate: float = 10.0
    """Degrees, either way."""
    zoom: float = 0.15
    """Share of the size, in or out."""
    stretch: float = 0.0
    """Share by which the ratio of width to height changes, either way."""
    shift: float = 0.06
    """Share of height and width, either way."""
    shear: float = 0.0
    """Degrees, either way."""
    brightness: float = 0.15
    """Share of 255 that is added, either way."""
    contrast: float = 0.2
    """Share, either way."""
    saturation: float = 0.3
    """Share, either way."""
    tint: float = 0.05
    """Share of 255 that is added to each channel on its own, either way."""
    invert: float = 0.0
    """Probability of the negative."""
    hflip: float | None = None
    """Probability of a horizontal flip; default: 0.5 where the competition allows it, else 0. With 0.5 an image
    is flipped in every second epoch, half of the images in the even ones."""
    erase: float = 0.0
    """Probability that a rectangle of 2-20% of the image is painted over."""
    concat: float | None = None
    """Probability that another string is set beside this one, where both fit; default: 0.4 for strings, else 0."""
    effects: float = 0.0
    """Probability of blur, noise or JPEG damage (albumentations)."""

    def changes_pixels(self) -> bool:
        """Return whether anything but concatenation is done."""
        return any(value for name, value in vars(self).items() if name != "concat")


NO_AUGMENT = Augment(
    rotate=0, zoom=0, shift=0, brightness=0, contrast=0, saturation=0, tint=0, hflip=0.0, concat=0.0
)  # fmt: skip


def keyed_uniforms(seed: int, epoch: int, index: np.ndarray, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Return (B, num_draws) float64 in [0, 1), a function of (seed, epoch, index) alone.

    A counter-based generator for a whole batch at once. Source: Steele et al., Fast Splittable Pseudorandom Number
    Generators (SplitMix64), 2014.
    """

    def mix(x: Any) -> Any:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = mix(np.uint64(seed) * golden + np.uint64(1)) ^ mix(np.uint64(epoch) * golden + np.uint64(2))
        state = mix(key + index.astype(np.uint64) * golden)[:, None]
        draws = mix(state + np.arange(1, num_draws + 1, dtype=np.uint64)[None] * golden)
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


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
    # Output is scaled by zoom: the way back divides by it.
    scale_x, scale_y = 1 / (zoom * np.sqrt(ratio)), np.sqrt(ratio) / zoom
    scale_x = np.where(hflip, -scale_x, scale_x)
    linear = np.empty((len(angle), 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = scale_x * cos, scale_x * (sin + np.tan(shear) * cos)
    linear[:, 1, 0], linear[:, 1, 1] = -scale_y * sin, scale_y * (cos - np.tan(shear) * sin)
    shift = np.stack([shift_x, shift_y], axis=1)
    offset = center - np.einsum("bij,bj->bi", linear, center + shift)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def warp(image: np.ndarray, matrix: np.ndarray, hflip_ok: bool, out: np.ndarray) -> None:
    """Warp one (H, W, 3) uint8 image into `out`. What lies outside repeats the edge, or its reflection where
    reflections are label-safe.

    By way of a fourth channel: opencv warps four channels in half the time of three, to the same bits
    (benchmarks/loader.py).
    """
    border = cv2.BORDER_REFLECT_101 if hflip_ok else cv2.BORDER_REPLICATE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, matrix, (image.shape[1], image.shape[0]), flags=flags, borderMode=border)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)


def _both_ways(uniform: np.ndarray, strength: float) -> np.ndarray:
    return (uniform * 2 - 1) * strength


def _colour_matrices(policy: Augment, draws: np.ndarray) -> np.ndarray:
    """Return (B, 3, 4): saturation about the luma, contrast about mid-grey, brightness, tint, inversion."""
    saturation = 1 + _both_ways(draws[:, 0], policy.saturation)
    contrast = 1 + _both_ways(draws[:, 1], policy.contrast)
    added = 255 * (_both_ways(draws[:, 2:3], policy.brightness) + _both_ways(draws[:, 3:6], policy.tint))
    mixing = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * LUMA
    linear = contrast[:, None, None] * mixing
    offset = 127.5 * (1 - contrast)[:, None] + added
    inverted = draws[:, 6] < policy.invert
    linear = np.where(inverted[:, None, None], -linear, linear)
    offset = np.where(inverted[:, None], 255 - offset, offset)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def _erase_boxes(draws: np.ndarray, probability: float, size: tuple[int, int]) -> np.ndarray:
    """Return (B, 5) int64: top, left, height, width and grey value of what is painted over; a height of 0: nothing."""
    height, width = size
    area, ratio = 0.02 + 0.18 * draws[:, 1], np.exp(np.log(3) * (2 * draws[:, 2] - 1))
    high = np.clip(np.round(height * np.sqrt(area * ratio)), 1, height)
    wide = np.clip(np.round(width * np.sqrt(area / ratio)), 1, width)
    top, left = np.floor(draws[:, 3] * (height - high + 1)), np.floor(draws[:, 4] * (width - wide + 1))
    value = np.floor(draws[:, 0] / max(probability, 1e-9) * 256)
    boxes = np.stack([top, left, high, wide, value], axis=1)
    return np.where((draws[:, 0] < probability)[:, None], boxes, 0).astype(np.int64)


_own = threading.local()  # albumentations keeps its generator in the object: each thread needs one


def _effects() -> Any:
    if not hasattr(_own, "effects"):
        _own.effects = _make_effects()
    return _own.effects


def _make_effects() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look a version up on the network
    import albumentations

    return albumentations.Compose(
        [
            albumentations.OneOf(
                [
                    albumentations.GaussianBlur(blur_limit=(3, 5)),
                    albumentations.MotionBlur(blur_limit=(3, 5)),
                    albumentations.GaussNoise(std_range=(0.02, 0.08)),
                    albumentations.ImageCompression(quality_range=(40, 90)),
                ],
                p=1.0,
            )
        ]
    )


def _hflipped(probability: float, draws: np.ndarray, index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return (B,) bool. Source of the alternation: Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024."""
    if probability != 0.5:
        return draws < probability
    first = keyed_uniforms(seed, 0, index, 8)[:, 6] < 0.5  # as if in epoch 0
    return first ^ (epoch % 2 == 1)


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """What is done to each image of a batch, on a CPU or on a GPU."""

    matrices: np.ndarray  # (B, 2, 3) float64, from output to input pixels
    colours: np.ndarray  # (B, 3, 4) float64, from RGB and 1 to RGB
    boxes: np.ndarray  # (B, 5) int64, what is painted over, see _erase_boxes
    has_effects: np.ndarray  # (B,) bool
    effect_seeds: np.ndarray  # (B,) int64


def draw_params(policy: Augment, index: np.ndarray, size: tuple[int, int], *, seed: int, epoch: int) -> AugmentParams:
    """Return each image's own random changes; `index` (B,) names the images."""
    draws = keyed_uniforms(seed, epoch, index, 32)
    shift_x, shift_y = (_both_ways(draws[:, 4 + i], policy.shift) * size[1 - i] for i in range(2))
    if not (policy.rotate or policy.zoom or policy.stretch or policy.shear):
        # Nothing else blurs the image: neither shall a part of a pixel. Each whole shift is as likely.
        most = [np.round(policy.shift * side) for side in (size[1], size[0])]
        shift_x, shift_y = (np.floor(draws[:, 4 + i] * (2 * most[i] + 1)) - most[i] for i in range(2))
    matrices = affine_matrices(
        size,
        angle=np.radians(_both_ways(draws[:, 0], policy.rotate)),
        zoom=np.exp(_both_ways(draws[:, 1], np.log1p(policy.zoom))),
        ratio=np.exp(_both_ways(draws[:, 2], np.log1p(policy.stretch))),
        shear=np.radians(_both_ways(draws[:, 3], policy.shear)),
        shift_x=shift_x,
        shift_y=shift_y,
        hflip=_hflipped(policy.hflip or 0.0, draws[:, 6], index, seed, epoch),
    )
    return AugmentParams(
        matrices=matrices,
        colours=_colour_matrices(policy, draws[:, 7:14]),
        boxes=_erase_boxes(draws[:, 14:19], policy.erase, size),
        has_effects=draws[:, 19] < policy.effects,
        effect_seeds=(draws[:, 20] * 2**32).astype(np.int64),
    )


def augment_batch(images: np.ndarray, params: AugmentParams, hflip_ok: bool) -> np.ndarray:
    """Return changed copies of (B, H, W, 3) uint8 images."""
    out = np.empty_like(images)
    moved, recoloured = (
        (matrices != np.eye(*matrices.shape[1:])).any(axis=(1, 2)) for matrices in (params.matrices, params.colours)
    )
    between = np.empty(images.shape[1:], np.uint8)
    for i, (top, left, high, wide, value) in enumerate(params.boxes):
        source = images[i]
        if moved[i]:
            source = between if recoloured[i] else out[i]
            warp(images[i], params.matrices[i], hflip_ok, source)
        if recoloured[i]:
            cv2.transform(source, params.colours[i], dst=out[i])
        elif not moved[i]:
            out[i] = source
        out[i, top : top + high, left : left + wide] = value
        if params.has_effects[i]:
            effects = _effects()
            effects.set_random_seed(int(params.effect_seeds[i]))
            out[i] = effects(image=out[i])["image"]
    return out
