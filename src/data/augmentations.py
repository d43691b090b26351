"""Every random change of an image, one entry each: its name, its draws, and what it does to a batch.

To add one: a strength in `Augment` (src/config/augment.py) and an entry of the same name at the end of AUGMENTATIONS.
The CPU path (augment.py) and the GPU path (device.py) both read the table. An entry takes its uniform draws by name and
either changes the batch's geometry and colours, at no extra cost (one affine warp and one colour matrix serve them
all), or returns numbers for its own change of the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from src.config import Augment
from src.core.errors import InputError
from src.data.keyed import keyed_uniforms
from src.data.transform import WHITE, Transform

if TYPE_CHECKING:
    import torch


def _both_ways(uniform: np.ndarray, strength: float) -> np.ndarray:
    return (uniform * 2 - 1) * strength


def _rotate(t: Transform, policy: Augment, *, angle: np.ndarray) -> None:
    t.angle = np.radians(_both_ways(angle, policy.rotate))


def _zoom(t: Transform, policy: Augment, *, factor: np.ndarray) -> None:
    t.zoom = np.exp(_both_ways(factor, np.log1p(policy.zoom)))


def _stretch(t: Transform, policy: Augment, *, factor: np.ndarray) -> None:
    t.ratio = np.exp(_both_ways(factor, np.log1p(policy.stretch)))


def _shear(t: Transform, policy: Augment, *, angle: np.ndarray) -> None:
    t.shear = np.radians(_both_ways(angle, policy.shear))


def _shift(t: Transform, policy: Augment, *, x: np.ndarray, y: np.ndarray) -> None:
    height, width = t.size
    if policy.rotate or policy.zoom or policy.stretch or policy.shear:
        t.shift_x, t.shift_y = _both_ways(x, policy.shift) * width, _both_ways(y, policy.shift) * height
        return
    # Nothing else interpolates, so neither does the shift: whole pixels only, each equally likely.
    most_x, most_y = np.round(policy.shift * width), np.round(policy.shift * height)
    t.shift_x, t.shift_y = np.floor(x * (2 * most_x + 1)) - most_x, np.floor(y * (2 * most_y + 1)) - most_y


def _hflip(t: Transform, policy: Augment, *, chance: np.ndarray) -> None:
    """Flip; at 0.5 in every second epoch. Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024."""
    if policy.hflip != 0.5:
        t.hflip = chance < (policy.hflip or 0.0)
        return
    column = COLUMNS["hflip"].start
    in_first_epoch = keyed_uniforms(t.seed, 0, t.index, column + 1)[:, column] < 0.5
    t.hflip = in_first_epoch ^ (t.epoch % 2 == 1)


def _saturation(t: Transform, policy: Augment, *, factor: np.ndarray) -> None:
    t.saturation = 1 + _both_ways(factor, policy.saturation)


def _contrast(t: Transform, policy: Augment, *, factor: np.ndarray) -> None:
    t.contrast = 1 + _both_ways(factor, policy.contrast)


def _brightness(t: Transform, policy: Augment, *, added: np.ndarray) -> None:
    t.added = t.added + _both_ways(added[:, None], policy.brightness)


def _tint(t: Transform, policy: Augment, *, red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
    t.added = t.added + _both_ways(np.stack([red, green, blue], axis=1), policy.tint)


def _invert(t: Transform, policy: Augment, *, chance: np.ndarray) -> None:
    t.inverted = chance < policy.invert


def _erase(
    t: Transform,
    policy: Augment,
    *,
    chance: np.ndarray,
    area: np.ndarray,
    ratio: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
) -> np.ndarray:
    """Return (B, 5) int64: top, left, height, width and grey value of a box; a height of 0 paints nothing."""
    height, width = t.size
    share, aspect = 0.02 + 0.18 * area, np.exp(np.log(3) * (2 * ratio - 1))
    box_height = np.clip(np.round(height * np.sqrt(share * aspect)), 1, height)
    box_width = np.clip(np.round(width * np.sqrt(share / aspect)), 1, width)
    y, x = np.floor(top * (height - box_height + 1)), np.floor(left * (width - box_width + 1))
    value = np.floor(chance / max(policy.erase, 1e-9) * (t.white + 1))
    boxes = np.stack([y, x, box_height, box_width, value], axis=1)
    return np.where((chance < policy.erase)[:, None], boxes, 0).astype(np.int64)


def _erase_image(image: np.ndarray, box: np.ndarray) -> None:
    top, left, height, width, value = box
    image[top : top + height, left : left + width] = value


def _erase_batch(images: "torch.Tensor", boxes: "torch.Tensor", y: "torch.Tensor", x: "torch.Tensor") -> "torch.Tensor":
    top, left, height, width, value = (column[:, None, None] for column in boxes.unbind(dim=1))
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    return value[:, None].where(inside[:, None], images)


def _effects(t: Transform, policy: Augment, *, chance: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return (B, 1) int64: a seed for albumentations, or -1 for an image that is left alone."""
    return np.where(chance < policy.effects, (seed * 2**32).astype(np.int64), -1)[:, None]


def _effects_image(image: np.ndarray, seed: np.ndarray) -> None:
    if seed[0] >= 0:
        from src.data.effects import apply_effects  # albumentations takes a second to import

        image[:] = apply_effects(image, int(seed[0]))


def _crop(t: Transform, policy: Augment, *, area: np.ndarray, ratio: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Show a part of the image. Source: Szegedy et al., Going Deeper with Convolutions, 2015."""
    share, aspect = policy.crop + (1 - policy.crop) * area, np.exp(np.log(4 / 3) * (2 * ratio - 1))
    wide, high = np.minimum(1, np.sqrt(share * aspect)), np.minimum(1, np.sqrt(share / aspect))
    t.zoom, t.ratio = t.zoom / np.sqrt(wide * high), t.ratio * high / wide
    t.shift_x = t.shift_x + (x - 0.5) * (1 - wide) / wide * t.size[1]
    t.shift_y = t.shift_y + (y - 0.5) * (1 - high) / high * t.size[0]


def _text_crop(
    t: Transform,
    policy: Augment,
    *,
    chance: np.ndarray,
    left: np.ndarray,
    top: np.ndarray,
    right: np.ndarray,
    bottom: np.ndarray,
) -> None:
    """Show a part of the image that has all characters, with random shares of the margins around them."""
    if t.boxes is None:
        return
    rest, whole = np.stack([left, top, right, bottom], axis=1), np.array([0.0, 0.0, 1.0, 1.0])
    cropped = (chance < policy.text_crop) & np.isfinite(t.boxes).all(axis=1)
    t.window = np.where(cropped[:, None], t.boxes + rest * (whole - t.boxes), whole)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One entry: a field of `Augment`, the names of its draws, and what it does.

    `draw(transform, policy, **draws)` gets each named draw as (B,) uniforms in [0, 1). It fills in the transform, or
    returns (B, K) numbers that `on_image` (one image (H, W, C), in place; its K numbers) and `on_batch` (float
    images (B, C, H, W) on the GPU; (B, K); pixel coordinates y and x, each (H, W)) turn into pixels. Without `on_batch`
    it runs on the CPU only.
    """

    name: str
    draws: tuple[str, ...]
    draw: Callable[..., np.ndarray | None]
    on_image: Callable[[np.ndarray, np.ndarray], None] | None = None
    on_batch: Callable[..., "torch.Tensor"] | None = None


# The order decides which uniforms an entry gets, so a new one goes to the end.
AUGMENTATIONS = (
    Augmentation(name="rotate", draws=("angle",), draw=_rotate),
    Augmentation(name="zoom", draws=("factor",), draw=_zoom),
    Augmentation(name="stretch", draws=("factor",), draw=_stretch),
    Augmentation(name="shear", draws=("angle",), draw=_shear),
    Augmentation(name="shift", draws=("x", "y"), draw=_shift),
    Augmentation(name="hflip", draws=("chance",), draw=_hflip),
    Augmentation(name="saturation", draws=("factor",), draw=_saturation),
    Augmentation(name="contrast", draws=("factor",), draw=_contrast),
    Augmentation(name="brightness", draws=("added",), draw=_brightness),
    Augmentation(name="tint", draws=("red", "green", "blue"), draw=_tint),
    Augmentation(name="invert", draws=("chance",), draw=_invert),
    Augmentation(
        name="erase",
        draws=("chance", "area", "ratio", "top", "left"),
        draw=_erase,
        on_image=_erase_image,
        on_batch=_erase_batch,
    ),
    Augmentation(name="effects", draws=("chance", "seed"), draw=_effects, on_image=_effects_image),
    Augmentation(name="crop", draws=("area", "ratio", "x", "y"), draw=_crop),
    Augmentation(name="text_crop", draws=("chance", "left", "top", "right", "bottom"), draw=_text_crop),
)


def _columns() -> dict[str, slice]:
    """Return which uniforms belong to each entry."""
    columns, start = {}, 0
    for entry in AUGMENTATIONS:
        columns[entry.name] = slice(start, start + len(entry.draws))
        start += len(entry.draws)
    return columns


COLUMNS = _columns()
NUM_DRAWS = COLUMNS[AUGMENTATIONS[-1].name].stop
PIXEL_CHANGES = {entry.name: entry for entry in AUGMENTATIONS if entry.on_image}


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """What is done to each image of a batch, on a CPU or on a GPU."""

    matrices: np.ndarray  # (B, 2, 3) float64, from output to input pixels
    colours: np.ndarray  # (B, 3, 4) float64, from RGB and 1 to RGB
    pixels: dict[str, np.ndarray]  # (B, K) numbers of each entry of PIXEL_CHANGES that is on


def draw_params(
    policy: Augment,
    index: np.ndarray,
    size: tuple[int, int],
    *,
    seed: int,
    epoch: int,
    white: float = WHITE,
    boxes: np.ndarray | None = None,
) -> AugmentParams:
    """Return each image's own random changes.

    `index` (B,) says which images they are, `white` how bright they get; boxes (B, 4) as in Transform.
    """
    uniforms = keyed_uniforms(seed, epoch, index, NUM_DRAWS)
    transform = Transform(size=size, index=index, seed=seed, epoch=epoch, white=white, boxes=boxes)
    pixels = {}
    for entry in AUGMENTATIONS:
        if getattr(policy, entry.name):
            columns = uniforms[:, COLUMNS[entry.name]].T
            numbers = entry.draw(transform, policy, **dict(zip(entry.draws, columns, strict=True)))
            if numbers is not None:
                pixels[entry.name] = numbers
    return AugmentParams(matrices=transform.matrices(), colours=transform.colours(), pixels=pixels)


NOT_OF_BANDS = ("saturation", "tint", "effects")  # which need red, green and blue of 8 bits


def of_bands(policy: Augment) -> Augment:
    """Return the policy without the changes that are for ordinary pictures. Raises InputError if one is asked for."""
    for name in NOT_OF_BANDS:
        value = getattr(policy, name)
        if value not in (0, getattr(Augment(), name)):
            raise InputError(f"--augment.{name} {value}: is for ordinary pictures, not for bands; leave it out")
    return replace(policy, saturation=0.0, tint=0.0)


MOVES = ("rotate", "zoom", "stretch", "shear", "shift", "hflip", "crop", "text_crop")  # where something is in the image


def moved_if_asked(policy: Augment) -> Augment:
    """Return the policy with those moves alone that are not at their defaults, for labels that follow them."""
    unasked = [move for move in MOVES if getattr(policy, move) == getattr(Augment(), move)]
    return replace(policy, **dict.fromkeys(unasked, 0.0))


def unmoved(policy: Augment, name: str) -> Augment:
    """Return the policy without moves, for labels that say where something is. Raises InputError for one asked for."""
    for move in MOVES:
        if getattr(policy, move) not in (0, getattr(Augment(), move)):
            flag = f"--augment.{move.replace('_', '-')} {getattr(policy, move)}"
            raise InputError(f"{flag}: would change the labels of {name}; leave it out")
    return replace(policy, **dict.fromkeys(MOVES, 0.0))


def cpu_only(policy: Augment) -> list[str]:
    """Return the names of the changes in use that a GPU cannot make."""
    return [name for name, entry in PIXEL_CHANGES.items() if getattr(policy, name) and not entry.on_batch]
