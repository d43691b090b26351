"""Forms of TIFF that decoders and header readers disagree on."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.competitions.boxes import size_of
from src.core.zips import Location
from src.data.images import ImageProblem, decode_image


def big_tiff(image: np.ndarray) -> bytes:
    """Return a BigTIFF of signed 16-bit grey numbers (H, W): header, pixels, one directory."""
    height, width = image.shape
    pixels = image.astype("<i2").tobytes()
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 16, 277: 1, 278: height, 279: len(pixels), 339: 2}
    entries = b"".join(
        np.array([tag, 3], "<u2").tobytes() + np.array([1, value], "<u8").tobytes() for tag, value in tags.items()
    )
    start = 16 + len(pixels)
    header = b"II+\0" + np.array([8, 0], "<u2").tobytes() + np.array([start], "<u8").tobytes()
    return header + pixels + np.array([len(tags)], "<u8").tobytes() + entries + bytes(8)


def test_signed_numbers_are_refused_in_a_bigtiff_too() -> None:
    with pytest.raises(ImageProblem, match="int16 numbers; convert them"):
        decode_image(big_tiff(np.linspace(-30000, 30000, 12 * 16).reshape(12, 16)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_the_size_in_the_header_is_that_of_the_decoded_image(tmp_path: Path, kind: str, orientation: int) -> None:
    image = Image.fromarray(np.full((20, 40, 3), 200, np.uint8))
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(stream, kind, exif=exif)
    file = tmp_path / "image"
    file.write_bytes(stream.getvalue())
    size = size_of(Location(str(file), "", len(stream.getvalue()), 0, 0, 0))
    assert size == decode_image(stream.getvalue()).shape[:2]
