"""The one way that this project decodes and resizes images.

An image becomes 8-bit RGB, upright (EXIF rotation applied), first frame only; palettes and CMYK are converted, 16 bits
are scaled to 8, alpha is dropped. It is then stretched to the cache's size, with INTER_AREA to shrink and INTER_LINEAR
to enlarge.
"""

import io
import struct
import warnings

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 50_000_000  # checked in the header, before decoding: a 23 KiB PNG can unpack to 561 MiB


class ImageProblem(Exception):
    """An unusable image; `kind` is one of: empty, not an image, over-large, truncated."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


def _check_header(data: bytes, max_pixels: int) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise ImageProblem("over-large", f"far more than the limit of {max_pixels:,} pixels") from error
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


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 RGB. Raises ImageProblem."""
    if not data:
        raise ImageProblem("empty", "0 bytes")
    _check_header(data, max_pixels)
    if data.startswith(b"\x89PNG"):
        _check_png_chunks(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageProblem("truncated", "the decoder failed") from error
    if image is None:
        raise ImageProblem("truncated", "the header is valid but the image cannot be decoded")
    return image


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch (H, W, 3) uint8 to `size` (height, width)."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] * image.shape[1] > height * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
