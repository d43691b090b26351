"""TIFF files with channels kept as they are: their directories checked, then decoded by opencv or by tifffile.

opencv reads grey, RGB and (of 16 bits) RGBA to the bit, and pages of grey; other forms it refuses or, silently, reads
wrongly. Those are left to tifffile (requirements-tiff.txt).
"""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from src.data.images import ImageProblem, imdecode

MAX_PAGES = 17  # looked at; no competition has as many bands
SIZES = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of the kinds of numbers that directories hold
WIDTH, HEIGHT = 256, 257  # tags
DEFAULTS = {277: 1, 258: 1, 284: 1, 339: 1, 262: 1}  # tags of the other fields of Page: what holds without them
STARTS, LENGTHS = (273, 324), (279, 325)  # tags of strips, or of tiles: where they are, how many bytes they have
NUMBERS = {1: "unsigned", 2: "signed", 3: "floating-point"}  # the sample formats


class Page(NamedTuple):
    """What a directory says of one image."""

    height: int
    width: int
    samples: int
    bits: int
    planar: int  # 2: each channel is stored by itself
    format: int  # of NUMBERS
    colours: int  # 2 and 6: red, green and blue

    @property
    def by_opencv(self) -> bool:
        """Whether opencv reads it to the bit."""
        several = self.samples == 3 or (self.samples == 4 and self.bits == 16)
        return self.samples == 1 or (several and self.planar != 2 and self.colours in (2, 6))


def _entries(data: bytes, start: int, order: str, is_big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the numbers of each tag of the directory at `start`, and where the next directory is, 0 for none."""
    head, entry, room = ("Q", "HHQ", 8) if is_big else ("H", "HHI", 4)
    (count,) = struct.unpack_from(order + head, data, start)
    position, found = start + struct.calcsize(order + head), {}
    if count * (struct.calcsize(order + entry) + room) > len(data):
        raise ImageProblem("truncated", f"its directory claims {count:,} entries")
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + entry, data, position)
        position += struct.calcsize(order + entry)
        if kind in SIZES:
            size, where = number * SIZES[kind], position
            if size > len(data):
                raise ImageProblem("truncated", f"a tag claims {size:,} bytes, more than the file has")
            if size > room:
                (where,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, position)
            letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[SIZES[kind]]
            found[tag] = struct.unpack_from(f"{order}{number}{letter}", data, where)
        position += room
    (following,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, position)
    return found, following


def _walk(data: bytes) -> Iterator[Page]:
    order, is_big = "<" if data.startswith(b"II") else ">", b"+" in data[2:4]
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    for _ in range(MAX_PAGES):
        if not start:
            return
        tags, start = _entries(data, start, order, is_big)
        starts, lengths = (next((tags[tag] for tag in either if tag in tags), ()) for either in (STARTS, LENGTHS))
        if not starts or len(starts) != len(lengths):
            raise ImageProblem("not an image", "a page does not say where its pixels are")
        if max(first + length for first, length in zip(starts, lengths, strict=True)) > len(data):
            raise ImageProblem("truncated", "its pixels lie beyond the end of the file")
        one = {tag: (tags.get(tag) or (default,))[0] for tag, default in DEFAULTS.items()}
        yield Page(tags[HEIGHT][0], tags[WIDTH][0], *one.values())


def pages_of(data: bytes, max_pixels: int) -> list[Page]:
    """Return the pages of a TIFF, at most MAX_PAGES. Raises ImageProblem if one is damaged, or too large."""
    try:
        pages = list(_walk(data))
    except (struct.error, OverflowError) as error:
        raise ImageProblem("truncated", "a directory lies beyond the end of the file") from error
    except (KeyError, IndexError) as error:
        raise ImageProblem("not an image", "a page does not give its size") from error
    if not pages:
        raise ImageProblem("not an image", "a TIFF without pages")
    for page in pages:
        if page.width * page.height > max_pixels:
            raise ImageProblem("over-large", f"{page.width}x{page.height} pixels, the limit is {max_pixels:,}")
    return pages


def decode_tiff(data: bytes, bands: int, max_pixels: int) -> np.ndarray:
    """Return (H, W) or (H, W, bands), channels of three or four as opencv has them: BGR.

    They are the first page's, or there is a page for each. Raises ImageProblem.
    """
    pages = pages_of(data, max_pixels)
    page = pages[0]
    if page.format != 1:
        raise ImageProblem("unfit", f"{NUMBERS.get(page.format, 'unknown')} numbers; convert them to uint16")
    if page.samples == 1 and len(pages) == bands > 1:
        if any(other != page for other in pages):
            raise ImageProblem("unfit", "its pages have different sizes or numbers")
        return np.stack(_decoded_pages(data, bands), axis=2)
    if page.samples != bands:
        several = f" in the first of {len(pages)} pages" if len(pages) > 1 else ""
        raise ImageProblem("unfit", f"{page.samples} channels{several}, the competition has bands={bands}")
    if page.by_opencv:
        return imdecode(data, cv2.IMREAD_UNCHANGED)
    return _by_tifffile(data, page)


def _decoded_pages(data: bytes, count: int) -> list[np.ndarray]:
    try:
        done, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise ImageProblem("truncated", "the decoder failed") from error
    if not done or len(images) != count or len({(image.shape, image.dtype) for image in images}) > 1:
        raise ImageProblem("truncated", "not all pages can be decoded")
    return list(images)


def _by_tifffile(data: bytes, page: Page) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise ImageProblem(
            "unfit", f"a TIFF of {page.samples} channels in one page: pip install -r requirements-tiff.txt"
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            image: np.ndarray = file.pages[0].asarray(maxworkers=1)
    except MemoryError:
        raise
    except Exception as error:  # its codecs have no error in common
        raise ImageProblem("truncated", f"tifffile: {' '.join(str(error).split())[:200]}") from error
    shape = (page.height, page.width, page.samples)
    image = np.moveaxis(image, 0, 2) if page.planar == 2 else image
    if image.shape != shape:
        raise ImageProblem("truncated", f"tifffile reads {image.shape}, its directory says {shape}")
    if page.samples in (3, 4):
        image = image[..., [2, 1, 0, 3][: page.samples]]
    return image
