"""Many texts in two arrays: paths take a third of the memory of a list of str, and are found by their hash.

Why not numpy's StringDType: it cannot hold names that are not UTF-8, np.save pickles it, and np.searchsorted crashes on
it (2.4.6).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from typing import overload

import numpy as np
from xxhash import xxh3_64_intdigest

CHUNK = 4096  # texts handled at a time
ERRORS = "surrogatepass"  # a file's name that is not UTF-8 is kept, and refused if an image has it


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", ERRORS)


class Texts(Sequence[str]):
    """A sequence of str, kept as `data`, (bytes,) uint8 of UTF-8, and `ends`, (N,) int64, where each text ends."""

    def __init__(self, data: np.ndarray, ends: np.ndarray) -> None:
        self.data, self.ends = data, ends
        self._view = data.data.cast("B") if len(data) else memoryview(b"")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Return these texts, taken in chunks: an iterator is never held as a whole list."""
        data, lengths, waiting = bytearray(), [np.zeros(0, np.int32)], iter(texts)
        while chunk := [_encoded(text) for text in islice(waiting, CHUNK)]:
            data += b"".join(chunk)
            lengths.append(np.fromiter(map(len, chunk), np.int32, len(chunk)))
        return cls(np.frombuffer(data, np.uint8), np.cumsum(np.concatenate(lengths), dtype=np.int64))

    @classmethod
    def joined(cls, parts: "Sequence[Texts]") -> "Texts":
        """Return the texts of all parts, in order."""
        shifts = np.cumsum([0, *(len(part.data) for part in parts)])
        ends = [part.ends + shift for part, shift in zip(parts, shifts[:-1], strict=True)]
        return cls(
            np.concatenate([np.zeros(0, np.uint8), *(part.data for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *ends]),
        )

    def pick(self, rows: np.ndarray) -> "Texts":
        """Return the texts of some rows."""
        return Texts.of(self[row] for row in rows.tolist())

    def order(self) -> np.ndarray | None:
        """Return the rows, (N,), sorted by their texts; None if they are sorted already."""
        if all(one <= other for one, other in pairwise(self)):
            return None
        texts = list(self)
        return np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return str(self._view[self.ends[row - 1] if row else 0 : self.ends[row]], "utf-8", ERRORS)

    def _slices(self) -> Iterator[memoryview]:
        start = 0
        for first in range(0, len(self), CHUNK):
            for end in self.ends[first : first + CHUNK].tolist():
                yield self._view[start:end]
                start = end

    def __iter__(self) -> Iterator[str]:
        return (str(part, "utf-8", ERRORS) for part in self._slices())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return np.array_equal(self.ends, other.ends) and np.array_equal(self.data, other.data)
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes in ascending order, (N,) uint64, and the row of each, (N,); of equal ones the first row first."""
        hashes = np.fromiter(map(xxh3_64_intdigest, self._slices()), np.uint64, len(self))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order.astype(np.int32 if len(self) < 2**31 else np.int64)

    def find(self, texts: Iterable[str]) -> np.ndarray:
        """Return (M,) int64: the first row of each text, -1 if there is none."""
        found, waiting = [np.zeros(0, np.int64)], iter(texts)
        while chunk := [_encoded(text) for text in islice(waiting, CHUNK)]:
            found.append(self._find(chunk))
        return np.concatenate(found)

    def _find(self, wanted: list[bytes]) -> np.ndarray:
        if not len(self):
            return np.full(len(wanted), -1)
        hashes, order = self._hashes
        keys = np.fromiter(map(xxh3_64_intdigest, wanted), np.uint64, len(wanted))
        positions = np.searchsorted(hashes, keys)
        rows = order[np.minimum(positions, len(order) - 1)].astype(np.int64)
        starts = np.where(rows > 0, self.ends[rows - 1], 0).tolist()
        for i, (start, end) in enumerate(zip(starts, self.ends[rows].tolist(), strict=True)):
            if self._view[start:end] != wanted[i]:
                rows[i] = self._search(wanted[i], int(positions[i]), keys[i])
        return rows

    def _search(self, wanted: bytes, position: int, key: np.uint64) -> int:
        """Return the first row of a text, or -1, among the rows with its hash."""
        hashes, order = self._hashes
        while position < len(order) and hashes[position] == key:
            row = int(order[position])
            if self._view[self.ends[row - 1] if row else 0 : self.ends[row]] == wanted:
                return row
            position += 1
        return -1

    def repeated(self) -> list[list[int]]:
        """Return the rows, ascending, of each text that occurs more than once."""
        hashes, order = self._hashes
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        rows = np.unique(np.concatenate([order[same], order[same + 1]])).tolist() if len(same) else []
        of_text: dict[str, list[int]] = {}
        for row in rows:
            of_text.setdefault(self[row], []).append(row)
        return [found for found in of_text.values() if len(found) > 1]
