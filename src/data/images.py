"""The one way that this project decodes and resizes images.

An image becomes 8-bit RGB, upright (EXIF rotation applied), first frame only; palettes and CMYK are converted, 16 bits
are scaled to 8, alpha is dropped. It is then fitted to the cache's size (stretched, in a letterbox, or cropped), with
INTER_AREA to shrink and INTER_LINEAR to enlarge. Training, validation and test images all pass here. What keeps more
than that, if a competition asks for it, is decoded in bands.py and fitted here.
"""

import io
import struct
import warnings
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from src.competitions.spec import Fit

Image.MAX_IMAGE_PIXELS = None  # --max-pixels is the limit
MAX_PIXELS = 50_000_000  # checked in the header, before decoding: a 23 KiB PNG can unpack to 561 MiB

ZEROS = 32  # zero bytes in a row that no compressed image ends in
MIN_ZERO_SHARE = 0.1  # of an uncompressed image's bytes, from which a zero end is told


class Decoding(NamedTuple):
    """How images are decoded."""

    max_pixels: int = MAX_PIXELS
    fit: Fit = "stretch"
    bands: int = 0  # channels kept as they are (bands.py); 0: ordinary pictures
    depth: int = 8  # bits of each

    @property
    def channels(self) -> int:
        return self.bands or 3

    @property
    def bars(self) -> int:
        """The value of a letterbox's bars."""
        return 0 if self.bands else GREY

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.depth == 16 else np.uint8)


class ImageProblem(Exception):
    """An unusable image; `kind` is one of: empty, not an image, over-large, truncated, unfit."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


def _check_header(data: bytes, max_pixels: int) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
    except (UnidentifiedImageError, OSError, RuntimeError, ValueError, SyntaxError) as error:
        raise ImageProblem("not an image", "no known image header") from error
    if width * height > max_pixels:
        raise ImageProblem("over-large", f"{width}x{height} pixels, the limit is {max_pixels:,}")


def _check_png_chunks(data: bytes) -> None:
    """Raise ImageProblem if a chunk claims more bytes than the file has: opencv would allocate them first."""
    position = 8  # after the signature
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):  # length, kind and checksum around the chunk's data
            raise ImageProblem("truncated", f"a chunk claims {length:,} bytes, more than the file has")
        if kind == b"IEND":
            return
        position += 12 + length


def _check_webp(data: bytes) -> None:
    """Raise ImageProblem if the file is shorter than it claims, or its compressed pixels end in zeros."""
    claimed = 8 + int.from_bytes(data[4:8], "little")
    if claimed > len(data):
        raise ImageProblem("truncated", f"claims {claimed:,} bytes, the file has {len(data):,}")
    position = 12
    while position + 8 <= claimed:
        kind, length = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + length]
        if kind in (b"VP8 ", b"VP8L", b"ANMF") and len(content) >= 2 * ZEROS and content.endswith(bytes(ZEROS)):
            raise ImageProblem("truncated", "its compressed pixels end in zeros: an interrupted copy")
        position += 8 + length + length % 2


def _check_jpeg(data: bytes) -> None:
    """Raise ImageProblem if the file ends in zeros where the marker of its end should be."""
    if data.endswith(bytes(ZEROS)) and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # start of the pixels
        raise ImageProblem("truncated", "it ends in zeros, without the marker of its end: an interrupted copy")


def _check_jpeg2000(data: bytes) -> None:
    """Raise ImageProblem without the marker that ends the pixels; compressed pixels cannot hold its bytes."""
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\x93"):  # start of the last tile's data
        raise ImageProblem("truncated", "the marker of its end is missing: an interrupted copy")


TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
CHECKS = {
    b"\x89PNG": _check_png_chunks,
    b"\xff\xd8": _check_jpeg,
    b"RIFF": _check_webp,
    b"\xff\x4f\xff\x51": _check_jpeg2000,
    b"\0\0\0\x0cjP  ": _check_jpeg2000,
}


def zero_tail(data: bytes) -> str:
    """Return a note if the file of a format without checksums ends in many zero bytes, or nothing.

    Uncompressed pixels (BMP, PNM, TIFF) may end in a black area, or in the zeros of an interrupted copy: the bytes do
    not tell which, so it is for people to look.
    """
    if not data.startswith((b"BM", *TIFF, b"P4", b"P5", b"P6")):
        return ""
    zeros = len(data) - len(data.rstrip(b"\0"))
    share = zeros / len(data)
    return f"the last {share:.0%} of its bytes are zero" if zeros >= ZEROS and share >= MIN_ZERO_SHARE else ""


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 RGB. Raises ImageProblem, and MemoryError if there is too little."""
    check_file(data, max_pixels)
    if data.startswith(TIFF):  # opencv would wrap signed numbers: dark becomes white
        found = imdecode(data, cv2.IMREAD_UNCHANGED).dtype
        if found.kind != "u":
            raise ImageProblem("unfit", f"{found} numbers; convert them to 8 or 16 bits without a sign")
    return imdecode(data, cv2.IMREAD_COLOR_RGB)


def check_file(data: bytes, max_pixels: int) -> None:
    """Raise ImageProblem for a file that is empty, no image, over-large or cut short, before it is decoded."""
    if not data:
        raise ImageProblem("empty", "0 bytes")
    _check_header(data, max_pixels)
    for beginning, check in CHECKS.items():
        if data.startswith(beginning):
            check(data)


def imdecode(data: bytes, flags: int) -> np.ndarray:
    """Decode a checked file by opencv. Raises ImageProblem and MemoryError."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise ImageProblem("truncated", "the decoder failed") from error
    if image is None:
        raise ImageProblem("truncated", "the header is valid but the image cannot be decoded")
    return image


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch (H, W, C) to `size` (height, width).

    If one side grows, opencv averages along neither. Where the other shrinks to less than half, it would skip pixels,
    so that side is shrunk first, by itself.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    across, down = image.shape[1] > 2 * width, image.shape[0] > 2 * height
    if (down and width > image.shape[1]) or (across and height > image.shape[0]):
        image = resize(image, (height, image.shape[1]) if down else (image.shape[0], width))
    shrinks = image.shape[0] * image.shape[1] > height * width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if image.shape[2] != 3:
        return by_fours(image, size, lambda part: cv2.resize(part, (width, height), interpolation=how))
    return cv2.resize(image, (width, height), interpolation=how)


def by_fours(image: np.ndarray, size: tuple[int, int], change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return (*size, C): what `change` makes of four channels at a time, as opencv takes no more."""
    parts = [np.ascontiguousarray(image[..., first : first + 4]) for first in range(0, image.shape[2], 4)]
    changed = [change(part).reshape(*size, part.shape[2]) for part in parts]
    return changed[0] if len(changed) == 1 else np.concatenate(changed, axis=2)


GREY = 128  # of a letterbox's bars: about zero once images are normalised


def fitted(image: np.ndarray, size: tuple[int, int], fit: Fit, bars: int = GREY) -> np.ndarray:
    """Return (H, W, C) at `size`: stretched, whole within grey bars (letterbox), or its centre (center-crop)."""
    if fit == "stretch" or image.shape[:2] == tuple(size):
        return resize(image, size)
    seen, shown = placement(image.shape[:2], size, fit)
    part = np.ascontiguousarray(image[seen.rows, seen.columns])
    if fit == "center-crop":
        return resize(part, size)
    out = np.full((*size, image.shape[2]), bars, image.dtype)
    out[shown.rows, shown.columns] = resize(part, (shown.height, shown.width))
    return out


class Rectangle(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


def placement(shape: tuple[int, ...], size: tuple[int, int], fit: Fit) -> tuple[Rectangle, Rectangle]:
    """Return which part of an image of `shape` (height, width) is shown at `size`, and where there."""
    whole, all_of_it = Rectangle(0, 0, shape[0], shape[1]), Rectangle(0, 0, *size)
    if fit == "stretch" or tuple(shape) == tuple(size):
        return whole, all_of_it
    factors = [wanted / given for wanted, given in zip(size, shape, strict=True)]
    if fit == "letterbox":
        inner = [max(1, min(side, round(min(factors) * given))) for side, given in zip(size, shape, strict=True)]
        top, left = ((side - part) // 2 for side, part in zip(size, inner, strict=True))
        return whole, Rectangle(top, left, inner[0], inner[1])
    height, width = (min(given, max(1, round(side / max(factors)))) for side, given in zip(size, shape, strict=True))
    return Rectangle((shape[0] - height) // 2, (shape[1] - width) // 2, height, width), all_of_it
