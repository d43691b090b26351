"""Files that hold many images as raw pixels: idx, Kaggle's pixel CSVs, and the CIFAR authors' Python pickles."""

import gzip
import io
import pickle
import re
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import MAX_FILE_BYTES, Location, read_location


def find_first(files: InputFiles, *names: str) -> tuple[str, Location]:
    """Return the first of these names that exists, and its location. Raises InputError with the first if none does."""
    name = next((name for name in names if files.has(name)), names[0])
    return name, files.find(name)


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """Parse an idx file of bytes, gzipped or not, to a uint8 array of the shape in its header.

    Format: two zero bytes, 0x08 for bytes, the number of dimensions, each dimension as a big-endian 32-bit number, then
    the values (LeCun, The MNIST database, 1998). Raises InputError if the file has another format or is truncated.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_FILE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{name}: not a valid gzip file ({error}); download it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        raise InputError(f"{name}: not an idx file of bytes (it starts with {data[:4].hex(' ')}); download it again")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    if 0 in shape:
        raise InputError(f"{name}: the header says {'x'.join(map(str, shape))}, which is empty; download it again")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != int(np.prod([int(side) for side in shape], dtype=object)):
        size = "x".join(map(str, shape))
        raise InputError(f"{name}: {values.size:,} values, the header says {size}; is the file cut off?")
    return values.reshape(shape)


def read_idx(files: InputFiles, *names: str) -> tuple[np.ndarray, Location]:
    """Read the first of these idx files that exists; return its array and location."""
    name, location = find_first(files, *names)
    return parse_idx(read_location(location), name), location


def line_number(row: int, data: bytes) -> int:
    """Return the line number in a CSV of data row `row` (from 0, below the header); empty lines are not rows."""
    lines = [number for number, line in enumerate(data.splitlines()[1:], start=2) if line]
    return lines[min(row, len(lines) - 1)]


def parse_pixels(data: bytes, name: str, columns: list[str]) -> np.ndarray:
    """Parse a CSV with this header and integers 0-255 to (N, len(columns)) int64. Raises InputError with the line."""
    header, _, body = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    found = header.decode(errors="replace").strip().split(",")
    if found != columns:
        raise InputError(f"{name}, line 1: {len(found)} columns from {found[0]!r}, not {columns[0]}..{columns[-1]}")
    try:
        with warnings.catch_warnings():  # about a table without rows, which raises below
            warnings.simplefilter("ignore")
            values = np.loadtxt(io.BytesIO(body), dtype=np.int64, delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        match = re.search(r"at row (\d+)", str(error))
        counted_from_one = "number of columns" in str(error)  # numpy's other messages count from zero
        line = f", line {line_number(int(match[1]) - counted_from_one, data)}" if match else ""
        raise InputError(f"{name}{line}: {str(error).split(';')[0]}; is the file cut off?") from error
    if values.shape[1] != len(columns):
        raise InputError(f"{name}: no rows of {len(columns)} values; download it again")
    for row, column in np.argwhere((values < 0) | (values > 255))[:1]:
        problem = f"{columns[column]} is {values[row, column]}"
        raise InputError(f"{name}, line {line_number(row, data)}: {problem}, outside 0-255; correct it")
    return values


class _ArrayStub:
    """Stands in for an array or dtype in a pickle: stores the arguments and state, and builds nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Return the described uint8 array. Raises ValueError if it is anything else."""
        _, shape, dtype, fortran_order, data = self.state
        if dtype.arguments[0] not in ("u1", b"u1", "|u1", b"|u1") or fortran_order or not isinstance(data, bytes):
            raise ValueError("data is not a uint8 array")
        return np.frombuffer(data, np.uint8).reshape(shape)


class _PlainOnly(pickle._Unpickler):  # the Python version: its memo holds only what the pickle defines
    """Unpickles plain values and array descriptions; any other global raises UnpicklingError."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _ArrayStub,
        ("numpy._core.multiarray", "_reconstruct"): _ArrayStub,
        ("numpy", "ndarray"): _ArrayStub,
        ("numpy", "dtype"): _ArrayStub,
        ("_codecs", "encode"): lambda text, encoding: str(text).encode(str(encoding)),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"disallowed global {module}.{name}")
        return self.ALLOWED[module, name]


# What the unpickler raises for damaged data.
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError, struct.error, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


def read_cifar_batch(files: InputFiles, name: str) -> tuple[np.ndarray, list[int], Location]:
    """Return images (N, 32, 32, 3) uint8 RGB, class ids and the location of the file.

    A batch is a pickled dict with "data" (N, 3072), one channel after another, and "labels" (Krizhevsky, 2009). Only
    plain values and arrays are unpickled. Raises InputError for anything else.
    """
    location = files.find(name)
    try:
        batch = _PlainOnly(io.BytesIO(read_location(location)), encoding="bytes").load()
        data, labels = batch[b"data"].array(), batch[b"labels"]
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise ValueError("labels are not a list of integers")
        if data.shape != (len(labels), 3072):
            raise ValueError(f"data has shape {data.shape}, expected {(len(labels), 3072)}")
    except _UNPICKLING_ERRORS as error:
        raise InputError(f"{name}: not a CIFAR-10 batch ({str(error) or 'cut off'}); download it again") from error
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, location
