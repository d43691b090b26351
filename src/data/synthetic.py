"""Strings drawn with fonts on patches of the training images, to be trained on beside them.

Each has the length of some training image's string, random characters and a random font; its background is a blurred
part of a training image, so that colours and light are those of the competition. Source: Jaderberg et al., Synthetic
Data and Artificial Neural Networks for Natural Scene Text Recognition, 2014, who drew words in a similar way.
"""

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.competitions.spec import Competition, Fit
from src.core.errors import InputError
from src.data.images import fitted
from src.data.pixels import Images

DRAWN = 64  # pixels of a font's size, before a string is shrunk
HEIGHTS = (10, 44)  # pixels of an image's height, before it is resized
MIN_CONTRAST = 40.0  # between ink and background, in grey levels
NEIGHBOURS = 0.3  # share of images at whose edges a part of another character is seen
SUFFIXES = (".ttf", ".otf", ".ttc")

Font = ImageFont.FreeTypeFont


class Drawn(NamedTuple):
    """New images (N, H, W, C), their targets (N, num_positions), and how many fonts they are drawn with."""

    images: np.ndarray
    targets: np.ndarray
    num_fonts: int


def font_files(folder: Path) -> list[Path]:
    """Return the fonts in a folder and those below it. Raises InputError if there is none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"--fonts {folder}: no folder with fonts ({', '.join(SUFFIXES)})")
    return found


def load_fonts(folder: Path | None, characters: str) -> list[Font]:
    """Return the fonts that have all the characters; without a folder the one that Pillow brings.

    Raises InputError if none has.
    """
    if folder is None:
        built_in = ImageFont.load_default(DRAWN)
        fonts = [built_in] if isinstance(built_in, ImageFont.FreeTypeFont) and _has(built_in, characters) else []
    else:
        fonts = [font for path in font_files(folder) if (font := _opened(path)) and _has(font, characters)]
    if not fonts:
        lacks = f"--fonts {folder}: no font there has" if folder else "--synthetic: Pillow's own font does not have"
        raise InputError(f"{lacks} all of {characters}; give --fonts a folder with one that has")
    return fonts


def _opened(path: Path) -> Font | None:
    try:
        return ImageFont.truetype(io.BytesIO(path.read_bytes()), DRAWN)
    except OSError:  # not a font
        return None


def _has(font: Font, characters: str) -> bool:
    """Return whether a font can draw all characters: each unlike what it draws for one that there is not."""
    missing = _bits(font, "\U0010ffff")
    return all(one.isspace() or _bits(font, one) not in (missing, b"") for one in characters)


def _bits(font: Font, character: str) -> bytes:
    mask, _ = font.getmask2(character, mode="L")
    return bytes(mask)


def _coverage(text: str, beside: tuple[str, str], font: Font, rng: np.random.Generator) -> np.ndarray:
    """Return a string's ink in [0, 1], (H, W) float32, with a margin that cuts the characters `beside` it."""
    stroke, spacing = int(rng.integers(0, 3)), rng.uniform(-0.04, 0.2) * DRAWN
    canvas = Image.new("L", (2 * DRAWN * (len(text) + 3), 2 * DRAWN))
    draw, x, edges = ImageDraw.Draw(canvas), float(DRAWN), []
    for character in (beside[0], *text, beside[1]):
        edges.append(x)
        y = DRAWN * (1.4 + rng.uniform(-0.03, 0.03))
        draw.text((x, y), character, fill=255, font=font, stroke_width=stroke, anchor="ls")
        x += font.getlength(character) + spacing if character else 0.0
    ink = np.asarray(canvas, np.float32) / 255
    left, right = edges[1], edges[-1] - spacing
    rows = np.flatnonzero(ink[:, int(left) : max(int(right), int(left) + 1)].any(axis=1))
    rows = rows if len(rows) else np.arange(DRAWN // 2, 3 * DRAWN // 2)  # of spaces alone
    height = rows[-1] + 1 - rows[0]
    sides = rng.uniform(0.04, 0.4, 4) * height  # top, bottom, left, right
    sides[2:] *= np.where([bool(other) for other in beside], 0.4, 1)  # less than half of another character is seen
    top, bottom = int(max(0, rows[0] - sides[0])), int(rows[-1] + 1 + sides[1])
    return ink[top:bottom, int(max(0, left - sides[2])) : int(max(right, left + 1) + sides[3])]


def _leaning(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ink (H, W) at the height of an image, a little turned and slanted."""
    height = int(rng.integers(*HEIGHTS))
    width = max(4, round(ink.shape[1] / ink.shape[0] * height * rng.uniform(0.8, 1.2)))
    small = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 3), 1.0)
    turn[0] += (slant := rng.normal(0, 0.1)) * turn[1]
    turn[0, 2] -= slant * height / 2
    return np.asarray(cv2.warpAffine(small, turn, (width, height)))


def _background(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a blurred part of an image at `size`, (H, W, 3) float32."""
    high, wide = (max(2, int(side * rng.uniform(0.1, 0.6))) for side in image.shape[:2])
    top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(image.shape, (high, wide), strict=False))
    part = fitted(np.ascontiguousarray(image[top : top + high, left : left + wide]), size, "stretch")
    return np.asarray(cv2.GaussianBlur(part, (0, 0), rng.uniform(0.1, 0.4) * size[0]), np.float32)


def _colour(background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an ink (C,) that stands out from the background: grey, or of any hue."""
    base = background.mean()
    room = [base - MIN_CONTRAST, 255 - base - MIN_CONTRAST]  # below and above, one of them positive
    down = rng.random() < max(0.0, room[0]) / (max(0.0, room[0]) + max(0.0, room[1]))
    level = rng.uniform(0, room[0]) if down else 255 - rng.uniform(0, room[1])
    return np.clip(level + rng.normal(0, 25, background.shape[2]) * (rng.random() < 0.5), 0, 255)


def draw_string(
    text: str, beside: tuple[str, str], font: Font, behind: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return an image (H, W, 3) uint8 of a string on a part of the image `behind`."""
    ink = _leaning(_coverage(text, beside, font, rng), rng)[..., None]
    background = _background(behind, (ink.shape[0], ink.shape[1]), rng)
    colour, image = _colour(background, rng), background
    if rng.random() < 0.3:  # a shadow, or a bright edge
        moved = np.roll(ink[..., 0], rng.integers(-1, 2, 2), (0, 1))[..., None]
        image = image + moved * (rng.uniform(-80, 80))
    image = image * (1 - ink) + colour * ink
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.2, 0.07 * ink.shape[0] + 0.3))
    image = image + rng.normal(0, rng.uniform(0, 8), background.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def synthetic(
    images: Images,
    rows: np.ndarray,
    targets: np.ndarray,
    competition: Competition,
    count: int,
    fonts: Path | None,
    fit: Fit,
    seed: int,
) -> Drawn:
    """Return `count` images like those at `rows` (M,), whose targets are (M, num_positions). Raises InputError."""
    classes, pad = competition.heads[0].classes, competition.pad_class
    characters = "".join(text for number, text in enumerate(classes) if number != pad)
    if any(len(text) != 1 for number, text in enumerate(classes) if number != pad):
        raise InputError(f"--synthetic: the classes of {competition.name} are not single characters")
    loaded, lengths = load_fonts(fonts, characters), (targets != (-1 if pad is None else pad)).sum(axis=1)
    lengths, ids = lengths[lengths > 0], [classes.index(one) for one in characters]
    if not len(lengths):
        raise InputError(f"--synthetic: all training labels of {competition.name} are empty")
    out = np.empty((count, *images.shape[1:]), images.dtype)
    labels = np.full((count, targets.shape[1]), -1 if pad is None else pad, targets.dtype)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        length = int(lengths[rng.integers(len(lengths))])
        chosen = [ids[position] for position in rng.integers(0, len(ids), length)]
        labels[number, :length] = chosen
        others = ["".join(rng.choice(list(characters), 1)) if rng.random() < NEIGHBOURS else "" for _ in range(2)]
        text, font = "".join(classes[one] for one in chosen), loaded[int(rng.integers(len(loaded)))]
        behind = images[rows[[int(rng.integers(len(rows)))]]][0]
        drawn = draw_string(text, (others[0], others[1]), font, behind, rng)
        if competition.channels == 1:
            drawn = np.repeat(drawn.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
        out[number] = fitted(drawn, (out.shape[1], out.shape[2]), "letterbox" if fit == "letterbox" else "stretch")
    return Drawn(out, labels, len(loaded))
