"""Where a competition's files are, in columns: a hundred bytes a file, zip members included."""

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import overload

import numpy as np

from src.core.texts import CHUNK, Texts
from src.core.zips import Location, Member

IN_FOLDER = -1  # the archive of a plain file
LARGEST = 2**63 - 1  # that a column holds; a damaged zip, or a time after 2262, claims more


class FileTable:
    """Every file below a folder, in the order in which it was found: `paths`, and columns that make its Location."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.archives: list[str] = []
        self._starts: list[int] = []  # of an archive's members: where their own names begin in their paths
        self.paths = Texts.of(())
        self._renamed: dict[int, str] = {}  # names of members that are not the end of their path
        self._new: list[str] = []
        self._parts: list[Texts] = []
        self._archive, self._numbers = array("i"), array("q")  # archive; size, stamp, offset, packed

    def __len__(self) -> int:
        return len(self._archive)

    def add_file(self, path: str, size: int, stamp: int) -> None:
        """Add a plain file."""
        self._add(path, IN_FOLDER, (size, stamp, 0, 0))

    def add_archive(self, file: str, folder: str) -> None:
        """Open a zip: the members that follow are of it, and their paths lie in this folder, "a/b"."""
        self.archives.append(file)
        self._starts.append(len(folder) + 1)

    def add_member(self, path: str, member: Member) -> None:
        """Add a member of the last archive."""
        if path[self._starts[-1] :] != member.filename:
            self._renamed[len(self)] = member.filename
        facts = member.file_size, member.CRC, member.header_offset, member.compress_size
        self._add(path, len(self.archives) - 1, facts)

    def _add(self, path: str, archive: int, numbers: tuple[int, int, int, int]) -> None:
        self._archive.append(archive)
        try:
            self._numbers.extend(numbers)
        except OverflowError:
            del self._numbers[4 * len(self._archive) - 4 :]  # those that did fit
            self._numbers.extend(min(max(number, -LARGEST), LARGEST) for number in numbers)
        self._new.append(path)
        if len(self._new) >= CHUNK:
            self._pack()

    def _pack(self) -> None:
        self._parts.append(Texts.of(self._new))
        self._new = []

    def finish(self) -> dict[int, list[str]]:
        """Keep one file of each path: the first archive's (plain files come before), and of its members the last.

        Returns the names of members that an archive holds once more, by archive.
        """
        self._pack()
        self.paths, self._parts = Texts.joined(self._parts), []
        again: list[int] = []
        dropped: list[int] = []
        numbers = self.numbers
        for rows in self.paths.repeated():
            of_archive: dict[int, list[int]] = {}
            for row in rows:
                of_archive.setdefault(self._archive[row], []).append(row)
            again += [row for same in of_archive.values() for row in same[1:]]
            last = of_archive[self._archive[rows[0]]][-1]
            self._renamed[rows[0]] = self.location(last).member
            numbers[rows[0]] = numbers[last]
            dropped += rows[1:]
        repeated: dict[int, list[str]] = {}
        for row in sorted(again):
            repeated.setdefault(self._archive[row], []).append(self.location(row).member)
        if dropped:
            self._drop(dropped)
        self.paths = Texts(self.paths.data, self.paths.ends)  # without the hashes, which nobody needs any more
        return repeated

    def _drop(self, rows: list[int]) -> None:
        kept = np.ones(len(self), bool)
        kept[rows] = False
        new_rows = (np.cumsum(kept) - 1).tolist()
        self._renamed = {new_rows[row]: name for row, name in self._renamed.items() if kept[row]}
        self.paths = Texts.of(path for path, keep in zip(self.paths, kept.tolist(), strict=True) if keep)
        self._numbers = array("q", self.numbers[kept].tobytes())
        self._archive = array("i", np.array(self._archive)[kept].tobytes())

    @property
    def numbers(self) -> np.ndarray:
        """(N, 4) int64, not copied: size, stamp, offset and packed of each file."""
        return np.frombuffer(self._numbers, np.int64).reshape(-1, 4)

    def archive_of(self, row: int) -> int:
        """Return the number of the zip that a file lies in, IN_FOLDER for a plain file."""
        return self._archive[row]

    def is_plain(self, row: int) -> bool:
        """Return whether a file lies in the folder itself, and not in a zip."""
        return self._archive[row] == IN_FOLDER

    def location(self, row: int) -> Location:
        """Return where a file lies."""
        archive, path = self._archive[row], self.paths[row]
        size, stamp, offset, packed = self._numbers[4 * row : 4 * row + 4]
        if archive == IN_FOLDER:
            return Location(os.path.join(self.root, path), "", size, stamp, offset, packed)
        member = self._renamed.get(row, path[self._starts[archive] :])
        return Location(self.archives[archive], member, size, stamp, offset, packed)


class Locations(Sequence[Location | None]):
    """The locations of some images, in their order; None for a missing one. Each is made when it is asked for."""

    def __init__(self, table: FileTable, rows: np.ndarray, own: dict[int, Location]) -> None:
        self.table, self.rows, self.own = table, rows, own

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> Location | None: ...

    @overload
    def __getitem__(self, i: slice) -> "list[Location | None]": ...

    def __getitem__(self, i: int | slice) -> "Location | list[Location | None] | None":
        if isinstance(i, slice):
            return [self[one] for one in range(*i.indices(len(self)))]
        row = int(self.rows[i])
        return self.own.get(i) if row < 0 else self.table.location(row)

    def sizes_and_stamps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the size and stamp of each file, (N,) int64; -1 for a missing one."""
        found = np.full((len(self), 2), -1)
        found[self.rows >= 0] = self.table.numbers[self.rows[self.rows >= 0], :2]
        for i, location in self.own.items():
            found[i] = location.size, location.stamp
        return found[:, 0].copy(), found[:, 1].copy()

    def missing(self) -> np.ndarray:
        """Return which images are not there, as their numbers in order."""
        gone = self.rows < 0
        gone[list(self.own)] = False
        return np.flatnonzero(gone)


class Located(Mapping[str, Location]):
    """image_path -> where it lies: paths of files in a table, and others that were set one by one."""

    def __init__(self, table: FileTable) -> None:
        self.table = table
        self.listed: list[tuple[Texts, np.ndarray]] = []  # image paths, and the row of each in the table
        self.own: dict[str, Location] = {}

    def add(self, paths: Texts, rows: np.ndarray) -> None:
        """Add image paths that are files of the table; they replace those of the same name."""
        self.listed = [listed for listed in self.listed if listed[0] != paths]  # listed before
        self.listed.append((paths, rows))
        for path in [path for path, row in zip(self.own, paths.find(self.own), strict=True) if row >= 0]:
            del self.own[path]

    def locations(self, paths: Iterable[str]) -> Locations:
        """Return where many images lie."""
        rows, own = [np.zeros(0, np.int64)], {}
        waiting, start = iter(paths), 0
        while chunk := list(islice(waiting, CHUNK)):
            rows.append(self._rows(chunk))
            own.update({start + i: self.own[path] for i, path in enumerate(chunk) if path in self.own})
            start += len(chunk)
        return Locations(self.table, np.concatenate(rows), own)

    def _rows(self, paths: list[str]) -> np.ndarray:
        found = np.full(len(paths), -1)
        for texts, rows in self.listed:
            at = texts.find(paths)
            found[at >= 0] = rows[at[at >= 0]]
        if self.own:
            found[[i for i, path in enumerate(paths) if path in self.own]] = -1
        return found

    def __getitem__(self, path: str) -> Location:
        location = self.locations([path])[0]
        if location is None:
            raise KeyError(path)
        return location

    def __setitem__(self, path: str, location: Location) -> None:
        self.own[path] = location

    def __iter__(self) -> Iterator[str]:
        for number, (texts, _) in enumerate(self.listed):
            later = [other for other, _ in self.listed[number + 1 :]]
            for start in range(0, len(texts), CHUNK):
                chunk = texts[start : start + CHUNK]
                known = np.zeros(len(chunk), bool)
                for other in later:
                    known |= other.find(chunk) >= 0
                yield from (
                    path for path, again in zip(chunk, known, strict=True) if not again and path not in self.own
                )
        yield from self.own

    def __len__(self) -> int:
        return sum(1 for _ in self)
