"""Thumbnails in sheets: a JPEG for every hundred images, so that ten thousand fit into a page of a few megabytes."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

COLUMNS, ROWS = 10, 10  # of a sheet
BLOCK = 8  # pixels; sides are multiples of it, so that JPEG does not mix neighbours
SIDES = (160, 144, 128, 112, 96, 88, 80, 72, 64, 56, 48, 40, 32, 24, 16)  # of a thumbnail's longer side, in pixels
QUALITIES = (75, 60, 45, 30)
ENOUGH = 48  # pixels of the longer side below which the quality is lowered first
SAMPLE = 100  # images that a size is estimated from

Read = Callable[[Sequence[int]], np.ndarray]  # some images by number, (K, H, W, 3) uint8


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """JPEG sheets of thumbnails, row by row; the last one may have fewer rows."""

    width: int  # of a thumbnail, in pixels
    height: int
    files: list[bytes]

    @property
    def layout(self) -> dict[str, int]:
        """What the page needs to find a thumbnail."""
        return {"width": self.width, "height": self.height, "columns": COLUMNS, "per_sheet": COLUMNS * ROWS}

    @property
    def texts(self) -> list[str]:
        """The sheets in base64."""
        return [base64.b64encode(data).decode() for data in self.files]

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.files))


def sides_of(shape: Sequence[int], longest: int) -> tuple[int, int]:
    """Return (height, width) of a thumbnail: the shape (H, W) at most `longest`, in multiples of BLOCK."""
    factor = min(1.0, longest / max(shape[:2]))
    height, width = (max(BLOCK, round(side * factor / BLOCK) * BLOCK) for side in shape[:2])
    return height, width


def _encode(images: np.ndarray, size: tuple[int, int], quality: int) -> bytes:
    """Return one sheet."""
    height, width = size
    rows = -(-len(images) // COLUMNS)
    sheet = np.full((rows * height, COLUMNS * width, 3), 128, np.uint8)
    for number, image in enumerate(images):
        top, left = height * (number // COLUMNS), width * (number % COLUMNS)
        shrinks = image.shape[0] > height or image.shape[1] > width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        sheet[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=how)
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    encoded: bytes = cv2.imencode(".jpg", sheet[..., ::-1], flags)[1].tobytes()
    return encoded


def make_sheets(read: Read, count: int, shape: Sequence[int], budget: int) -> Sheets:
    """Return sheets of images 0 to `count`, of shape (H, W), as large and good as `budget` bytes allow.

    The best quality at a size, but small images in lower quality before they become smaller still. The smallest are
    made in any case.
    """
    sample = read(np.linspace(0, count - 1, min(count, SAMPLE)).astype(int).tolist()) if count else None
    tried = [(side, quality) for side in SIDES if side >= ENOUGH for quality in QUALITIES[:2]]
    tried += [(side, quality) for side in SIDES if side <= ENOUGH for quality in QUALITIES[1:]]
    for side, quality in tried:
        size, is_last = sides_of(shape, side), (side, quality) == tried[-1]
        if is_last or sample is None or len(_encode(sample, size, quality)) * count / len(sample) <= 0.97 * budget:
            made = Sheets(width=size[1], height=size[0], files=_files(read, count, size, quality))
            if is_last or made.num_bytes <= budget:  # the sample may have been easier than the rest
                break
    return made


def _files(read: Read, count: int, size: tuple[int, int], quality: int) -> list[bytes]:
    """Return all sheets."""
    step = COLUMNS * ROWS
    return [_encode(read(range(start, min(count, start + step))), size, quality) for start in range(0, count, step)]
