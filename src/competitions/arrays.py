"""Files that hold many images as raw pixels: idx, Kaggle's pixel CSVs, and the CIFAR authors' python pickles."""

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
from src.core.reading import MAX_FILE_BYTES, InputFiles, Location, read_location


def find_first(files: InputFiles, *names: str) -> tuple[str, Location]:
    """Return the first of these file names that is there, and where. Raises InputError naming the first otherwise."""
    known = {path.name for path in files.index}
    name = next((name for name in names if name in known), names[0])
    return name, files.find(name)


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """Return the array of an idx file of bytes, gzipped or not: uint8, of the shape that its header tells.

    Format: two zero bytes, 0x08 for bytes, the number of dimensions, each dimension as a big-endian 32-bit number, then
    the values (LeCun, The MNIST database, 1998). Raises InputError if the file is something else or cut off.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_FILE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{name}: is no whole gzip file ({error}); download it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        raise InputError(f"{name}: is no idx file of bytes (it begins with {data[:4].hex(' ')}); download it again")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    if 0 in shape:
        raise InputError(f"{name}: its header tells {'x'.join(map(str, shape))}, which is nothing; download it again")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != int(np.prod([int(side) for side in shape], dtype=object)):
        raise InputError(f"{name}: {values.size:,} values where its header tells {'x'.join(map(str, shape))}; cut off?")
    return values.reshape(shape)


def read_idx(files: InputFiles, *names: str) -> tuple[np.ndarray, Location]:
    """Read the first of these idx files that is there; return its array and where it lies."""
    name, location = find_first(files, *names)
    return parse_idx(read_location(location), name), location


def _line_of(row: int, body: bytes) -> int:
    """Return the line in the file of a row below its header, numbered from 0: empty lines are no rows."""
    lines = [number for number, line in enumerate(body.splitlines(), start=2) if line]
    return lines[min(row, len(lines) - 1)]


def parse_pixels(data: bytes, name: str, columns: list[str]) -> np.ndarray:
    """Return (N, len(columns)) int64 of a CSV with this header and integers 0-255. Raises InputError with the line."""
    header, _, body = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    found = header.decode(errors="replace").strip().split(",")
    if found != columns:
        raise InputError(f"{name}, line 1: {len(found)} columns from {found[0]!r}, not {columns[0]}..{columns[-1]}")
    try:
        with warnings.catch_warnings():  # of a table without rows, which is refused below
            warnings.simplefilter("ignore")
            values = np.loadtxt(io.BytesIO(body), dtype=np.int64, delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        row = re.search(r"at row (\d+)", str(error))
        counted_from_one = "number of columns" in str(error)  # the other messages of numpy's count from zero
        line = f", line {_line_of(int(row[1]) - counted_from_one, body)}" if row else ""
        raise InputError(f"{name}{line}: {str(error).split(';')[0]}; is the file cut off?") from error
    if values.shape[1] != len(columns):
        raise InputError(f"{name}: has no rows of {len(columns)} values; download it again")
    for at, column in np.argwhere((values < 0) | (values > 255))[:1]:
        wrong = f"{columns[column]} is {values[at, column]}"
        raise InputError(f"{name}, line {_line_of(at, body)}: {wrong}, outside 0-255; correct it")
    return values


class _Pickled:
    """Stands in for the array, or the array's type, that a pickle wants to make: only keeps what it was told."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Return the array of bytes that is described. Raises ValueError where it is anything else."""
        _, shape, kind, by_columns, data = self.state
        if kind.arguments[0] not in ("u1", b"u1", "|u1", b"|u1") or by_columns or not isinstance(data, bytes):
            raise ValueError("its data is no uint8 array")
        return np.frombuffer(data, np.uint8).reshape(shape)


class _PlainOnly(pickle._Unpickler):  # in Python: its table grows by what is there only
    """Unpickles plain values and descriptions of arrays; whatever else a pickle asks for is refused."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _Pickled,
        ("numpy._core.multiarray", "_reconstruct"): _Pickled,
        ("numpy", "ndarray"): _Pickled,
        ("numpy", "dtype"): _Pickled,
        ("_codecs", "encode"): lambda text, encoding: str(text).encode(str(encoding)),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ALLOWED[module, name]


# What the unpickler raises for damaged bytes.
_DAMAGED = (
    pickle.UnpicklingError, struct.error, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


def read_cifar_batch(files: InputFiles, name: str) -> tuple[np.ndarray, list[int], Location]:
    """Return images (N, 32, 32, 3) uint8 RGB, class ids and where the file lies.

    A batch is a pickled dict with "data" (N, 3072), channel after channel, and "labels" (Krizhevsky, 2009). Nothing
    but plain values and arrays is unpickled. Raises InputError for anything else.
    """
    location = files.find(name)
    try:
        batch = _PlainOnly(io.BytesIO(read_location(location)), encoding="bytes").load()
        data, labels = batch[b"data"].array(), batch[b"labels"]
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise ValueError("its labels are no list of integers")
        if data.shape != (len(labels), 3072):
            raise ValueError(f"its data is {data.shape}, not {len(labels)} rows of 3072")
    except _DAMAGED as error:
        raise InputError(f"{name}: is no batch of CIFAR-10 ({str(error) or 'cut off'}); download it again") from error
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, location
