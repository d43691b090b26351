"""What is known of each image of a cache, in columns: a few dozen bytes an image instead of half a kilobyte.

Files: train_64x128_<pixels>_<facts>.npz, beside the cache and named after its own hash, which the cache's JSON holds.
"""

import hashlib
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from src.core.errors import InputError
from src.core.texts import Texts

HASH = "S24"  # hex digits of an image's pixels


class Reading(NamedTuple):
    """What reading one image showed: problem is "" if there is none; pixels identify exact duplicates."""

    problem: str
    detail: str
    pixels: str  # hash of the full-size decoded pixels


class Readings(Sequence[Reading]):
    """The readings of N images: `pixels`, (N,) bytes, and problem and detail of the few rows that have any.

    `shapes`, (N, 2) uint16, are heights and widths of the originals, or of the parts of them that are kept, if the
    competition has boxes; 0 of unreadable ones.
    """

    def __init__(
        self, pixels: np.ndarray, remarks: dict[int, tuple[str, str]], shapes: np.ndarray | None = None
    ) -> None:
        self.pixels, self.remarks, self.shapes = pixels, remarks, shapes

    @classmethod
    def of(cls, readings: Iterable[tuple[str, str, str]], count: int) -> "Readings":
        """Return `count` readings, taken as they come."""
        pixels, remarks, row = np.zeros(count, HASH), {}, -1
        for row, (problem, detail, hashed) in enumerate(readings):
            pixels[row] = hashed
            if problem or detail:
                remarks[row] = (problem, detail)
        assert row + 1 == count
        return cls(pixels, remarks)

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, row: int) -> Reading: ...

    @overload
    def __getitem__(self, row: slice) -> list[Reading]: ...

    def __getitem__(self, row: int | slice) -> Reading | list[Reading]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return Reading(*self.remarks.get(row, ("", "")), self.pixels[row].decode())

    def __iter__(self) -> Iterator[Reading]:
        for row, pixels in enumerate(self.pixels):
            yield Reading(*self.remarks.get(row, ("", "")), pixels.decode())

    @property
    def readable(self) -> np.ndarray:
        """(N,) bool: no problem was found."""
        found = np.ones(len(self), bool)
        found[[row for row, (problem, _) in self.remarks.items() if problem]] = False
        return found

    def pick(self, rows: np.ndarray) -> "Readings":
        """Return those of some images, each at most once."""
        places = np.full(len(self), -1)
        places[rows] = np.arange(len(rows))
        remarks = {int(places[row]): remark for row, remark in self.remarks.items() if places[row] >= 0}
        return Readings(self.pixels[rows], remarks)

    def same_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the readable rows, (n,), sorted so that identical images are neighbours, the first row first; and
        (n,) bool, whether a row begins another image."""
        rows = np.flatnonzero(self.readable)
        words = self.pixels[rows].view(np.uint64).reshape(len(rows), np.dtype(HASH).itemsize // 8)
        order = np.lexsort(words.T)
        words = words[order]
        begins = np.ones(len(rows), bool)
        begins[1:] = (words[1:] != words[:-1]).any(axis=1)
        return rows[order], begins


class Sources(NamedTuple):
    """The files that N images were read from, as they lay there; of a missing one size and stamp are -1."""

    sizes: np.ndarray  # (N,) int64, bytes
    stamps: np.ndarray  # (N,) int64, mtime in ns, or a zip member's CRC

    def pick(self, rows: np.ndarray) -> "Sources":
        """Return those of some images."""
        return Sources(self.sizes[rows], self.stamps[rows])

    def same(self, other: "Sources") -> np.ndarray:
        """Return (N,) bool: whether each file is as it was."""
        return (self.sizes == other.sizes) & (self.stamps == other.stamps)


class Facts:
    """The columns of a facts file; each is read when it is first needed.

    The file stays open: prepare may meanwhile put another one in its place. Raises InputError if its hash is another.
    """

    def __init__(self, file: Path, sha256: str, repair: str) -> None:
        self.file = file
        try:
            stream = open(file, "rb")  # noqa: SIM115
        except FileNotFoundError as error:
            raise InputError(f"{file}: not there; run {repair} again") from error
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            stream.close()
            raise InputError(f"{file}: is damaged (its SHA-256 differs); run {repair} again")
        self._columns = np.lib.npyio.NpzFile(stream)
        weakref.finalize(self, stream.close)  # also if an error's traceback keeps this in a circle

    def _column(self, name: str) -> Any:
        return self._columns[name]

    def _texts(self, name: str) -> Texts:
        return Texts(self._column(name), self._column(f"{name}_ends"))

    @cached_property
    def image_paths(self) -> Texts:
        return self._texts("image_paths")

    @cached_property
    def sources(self) -> Sources:
        return Sources(self._column("sizes"), self._column("stamps"))

    @cached_property
    def readings(self) -> Readings:
        rows = self._column("remarks").tolist()
        remarks = zip(self._texts("problems"), self._texts("details"), strict=True)
        shapes = self._column("shapes") if "shapes" in self._columns else None
        return Readings(self._column("pixels"), dict(zip(rows, remarks, strict=True)), shapes)


def columns_of(image_paths: Texts, sources: Sources, readings: Readings) -> dict[str, np.ndarray]:
    """Return the arrays of a facts file."""
    texts = {
        "image_paths": image_paths,
        "problems": Texts.of(problem for problem, _ in readings.remarks.values()),
        "details": Texts.of(detail for _, detail in readings.remarks.values()),
    }
    return {
        "sizes": sources.sizes,
        "stamps": sources.stamps,
        "pixels": readings.pixels,
        "remarks": np.array(list(readings.remarks), dtype=np.int64),
        **({} if readings.shapes is None else {"shapes": readings.shapes}),
        **{name: column.data for name, column in texts.items()},
        **{f"{name}_ends": column.ends for name, column in texts.items()},
    }
