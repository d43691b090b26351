"""Images whose channels are kept as they are: .npy, .tif, .png and the like, of 1 to 16 channels of 8 or 16 bits.

A competition asks for it with `bands` and `depth`. Nothing is converted, scaled or turned: a file with another number
of channels or another type is reported as a problem. Training, validation and test images all pass here.
"""

import io
import math
import warnings
from tokenize import TokenError

import cv2
import numpy as np

from src.data.images import TIFF, Decoding, ImageProblem, check_file, imdecode
from src.data.tiff import decode_tiff

NPY = b"\x93NUMPY"


def decode_bands(data: bytes, how: Decoding) -> np.ndarray:
    """Decode a file to (H, W, how.bands) of how.dtype. Raises ImageProblem, and MemoryError if there is too little."""
    if data.startswith(NPY):
        image = _decode_npy(data, how)
    elif data.startswith(TIFF):
        image = decode_tiff(data, how.bands, how.max_pixels)
    else:
        check_file(data, how.max_pixels)
        image = imdecode(data, cv2.IMREAD_UNCHANGED)
    image = image[:, :, None] if image.ndim == 2 else image
    _check_numbers(image, how)
    if image.shape[2] != how.bands:
        raise ImageProblem("unfit", f"{image.shape[2]} channels, the competition has bands={how.bands}")
    if not data.startswith(NPY) and how.bands in (3, 4):
        image = image[..., [2, 1, 0, 3][: how.bands]]  # opencv has blue first
    return np.ascontiguousarray(image, how.dtype)


def _check_numbers(array: np.ndarray, how: Decoding) -> None:
    """Raise ImageProblem unless these are the numbers that the competition keeps, in any byte order."""
    found = array.dtype
    if found.kind == "u" and found.itemsize == how.dtype.itemsize:
        return
    if found.kind == "u" and found.itemsize in (1, 2):
        raise ImageProblem("unfit", f"{8 * found.itemsize} bits a channel, the competition has depth={how.depth}")
    nan = ", some of them NaN" if found.kind == "f" and np.isnan(array).any() else ""
    raise ImageProblem("unfit", f"{found} numbers{nan}; convert them to {how.dtype}")


def _decode_npy(data: bytes, how: Decoding) -> np.ndarray:
    """Return (H, W) or (H, W, bands) from an array (H, W), (H, W, bands) or (bands, H, W); no pickle is read."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, is_fortran, dtype = readers[version](stream)
    except (ValueError, EOFError, SyntaxError, TokenError, KeyError, TypeError, RecursionError) as error:
        raise ImageProblem("not an image", "a .npy file whose header cannot be read") from error
    if dtype.kind not in "uifb":  # objects would be pickled
        raise ImageProblem("unfit", f"{dtype} instead of numbers; convert them to {how.dtype}")
    channels_first = _channels_first(shape, how.bands)
    height, width = shape[1:] if channels_first else shape[:2]
    if height * width > how.max_pixels:
        raise ImageProblem("over-large", f"{width}x{height} pixels, the limit is {how.max_pixels:,}")
    count = math.prod(shape)
    if stream.tell() + count * dtype.itemsize > len(data):
        raise ImageProblem("truncated", f"{len(data):,} bytes are too few for {shape} of {dtype}")
    image = np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if is_fortran else "C")
    return np.moveaxis(image, 0, 2) if channels_first else image


def _channels_first(shape: tuple[int, ...], bands: int) -> bool:
    """Return whether an array is (bands, H, W). Raises ImageProblem if its shape is not an image's, or is ambiguous."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ImageProblem("unfit", f"an array of shape {shape} is not an image")
    if len(shape) == 2:
        return False
    first, last = shape[0] == bands, shape[2] == bands
    if first and last:
        raise ImageProblem("unfit", f"an array {shape} may have its {bands} channels first or last: save (H, W, bands)")
    if not first and not last:
        raise ImageProblem("unfit", f"an array {shape}, the competition has bands={bands}")
    return first
