"""Reading the organiser's files: folders, zips and CSV.

Nothing is unpacked and nothing outside the competition's folder is read. A zip is read in place, as if it had been
unpacked into a folder of its own name, so image paths are the same for packed and unpacked downloads.
"""

import os
import unicodedata
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.located import FileTable, Located
from src.core.texts import Texts
from src.core.walking import walk
from src.core.zips import Location, member_name, read_location, zip_members

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .webp .gif .tif .tiff .pgm .ppm .pnm .jp2".split()  # noqa: SIM905
)
ARCHIVES = (".zip", ".7z", ".gz", ".tar", ".tgz", ".rar")
PARTIAL = ".partial"  # folder of what is not downloaded to its end
DOWNLOAD = "podium-download"  # what a download locks
JUNK_NAMES = frozenset(
    {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "@eaDir", PARTIAL, f".{DOWNLOAD}.lock"}
)
MAX_FOLDERS_NAMED = 5  # in a message


def _is_junk(path: str) -> bool:
    return any(part in JUNK_NAMES or part.startswith("._") for part in path.split("/"))


def _suffix(path: str) -> str:
    """Return the end of a file's name, as ".png"; of ".png" itself nothing."""
    stem, dot, end = path.rpartition("/")[2].rpartition(".")
    return f"{dot}{end}".lower() if stem else ""


def _start_in(folder: str, wanted: tuple[str, ...], has_others: Callable[[str, str], bool]) -> int:
    """Return where, in a path of this folder, the last run of `wanted` parts begins, or -1; 0 if nothing is wanted.

    Of "train/train" the inner one counts, as in a zip of a folder, unless the outer one `has_others`: then the inner
    one is a class of that name.
    """
    if not wanted:
        return 0
    parts = folder.split("/") if folder else []
    starts = [at for at in range(len(parts) - len(wanted) + 1) if tuple(parts[at : at + len(wanted)]) == wanted]
    while len(starts) > 1 and starts[-1] == starts[-2] + 1 and has_others("/".join(parts[: starts[-1]]), wanted[0]):
        starts.pop()
    return len("/".join([*parts[: starts[-1]], ""])) if starts else -1


def nfc(name: str) -> str:
    """Return a name in the Unicode form NFC; macOS writes file names in another one than most label files."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _check_encoding(location: Location, name: str) -> None:
    """Raise InputError if an image's name is not UTF-8, as no table could name it."""
    if name.encode(errors="ignore").decode() != name:
        shown = location.member or location.file
        raise InputError(f"{os.fsencode(shown)!r}: this file's name is not UTF-8; rename it")


@dataclass
class InputFiles:
    """Every file below `root`, including zip members, without the junk that archivers add.

    Raises InputError if the folder is missing or empty, a zip is broken, a member or link leads out of the folder.
    """

    root: Path
    source: str = ""  # where to download the data; part of the message if something is missing
    pixels: dict[str, np.ndarray] = field(default_factory=dict, repr=False)  # image_path -> (H, W, 3) uint8, if raw
    suffixes: frozenset[str] = IMAGE_SUFFIXES  # of images
    notes: list[str] = field(default_factory=list)  # what the user should know about the files
    found: FileTable = field(init=False, repr=False)  # every file
    located: Located = field(init=False, repr=False)  # image_path -> where it lies

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder. {self.source}".strip())
        root = self.root.resolve()
        self.found = FileTable(str(root))
        self.located = Located(self.found)
        below = len(str(root).rstrip(os.sep)) + 1
        for entry in walk(root):
            path = entry.path[below:].replace(os.sep, "/")
            if _is_junk(path):
                continue
            info = entry.stat()
            self.found.add_file(path, info.st_size, info.st_mtime_ns)
            if _suffix(path) == ".zip":
                self._add_zip(Path(entry.path), path)
        for archive, names in self.found.finish().items():
            self.notes.append(
                f"note: {self.found.archives[archive]} holds {len(names)} files more than once, such as {names[0]}; "
                "the last of each is read, as unzip would leave it"
            )
        if not len(self.found):
            raise InputError(f"{self.root}: the folder is empty. {self.source}".strip())
        self._others = [row for row, path in enumerate(self.found.paths) if not self._is_image(path)]

    def _is_image(self, path: str) -> bool:
        return _suffix(path) in self.suffixes

    def _add_zip(self, path: Path, relative: str) -> None:
        """Add a zip's members as if it were unpacked."""
        folder = str(PurePosixPath(relative).with_suffix(""))
        self.found.add_archive(str(path), folder)
        for member in zip_members(path):
            inside = f"{folder}/{member_name(member)}".replace("\\", "/")
            if "//" in inside or "/." in inside or "./" in inside:
                inside = str(PurePosixPath(inside))
            if not _is_junk(inside):
                self.found.add_member(inside, member)

    def images(self, folder: str) -> Texts:
        """List the images under every folder (or zip) called `folder`, which may be "a/b", as "folder/name", sorted.

        Raises InputError if there are none, or if two plain folders hold the same name.
        """
        names, rows = self._images_in(PurePosixPath(folder).parts)
        if not len(names):
            raise InputError(
                f"{self.root}: no images in a folder or zip called {folder!r}{self._image_folders()}. "
                f"{self.source}".strip()
            )
        kept = self._without_repeats(names, rows, "remove one of the two folders")
        names, rows = (names.pick(kept), rows[kept]) if len(kept) < len(names) else (names, rows)
        order = names.order()
        names, rows = (names.pick(order), rows[order]) if order is not None else (names, rows)
        self.located.add(names, rows)
        return names

    def _images_in(self, wanted: tuple[str, ...]) -> tuple[Texts, np.ndarray]:
        """Return the images in folders whose path holds these parts, named from there, and their rows in the table."""
        starts: dict[tuple[int, str], int] = {}  # of a folder in a zip or outside: where its images' names begin, or -1
        rows = array("q")

        def found() -> Iterator[str]:
            for row, path in enumerate(self.found.paths):
                parent, archive = path.rpartition("/")[0], self.found.archive_of(row)
                start = starts.get((archive, parent))
                if start is None:
                    start = _start_in(parent, wanted, partial(self._has_others, archive))
                    starts[archive, parent] = start
                if start >= 0 and self._is_image(path):
                    name = path[start:]
                    if not name.isascii():
                        _check_encoding(self.found.location(row), name)
                    rows.append(row)
                    yield name

        names = Texts.of(found())
        return names, np.array(rows, dtype=np.int64)

    def _has_others(self, archive: int, folder: str, known: str) -> bool:
        """Return whether a folder of a zip, or of plain files, holds images in another folder than the known one."""
        inside, own = f"{folder}/", f"{folder}/{known}/"
        below = (
            path
            for row, path in enumerate(self.found.paths)
            if path.startswith(inside) and not path.startswith(own) and self.found.archive_of(row) == archive
        )
        return any("/" in path[len(inside) :] and self._is_image(path) for path in below)

    def _without_repeats(self, names: Texts, rows: np.ndarray, what_to_do: str) -> np.ndarray:
        """Return which rows of `names` are kept if a name is there several times: a plain file rather than a member,
        and one of equal members. Raises InputError for two plain files, and for members that differ."""
        kept = np.ones(len(names), bool)
        first: dict[str, int] = {}
        for at in sorted(at for same in names.repeated() for at in same):
            name, row = names[at], int(rows[at])
            known = first.get(name)
            if known is None:
                first[name] = at
                continue
            both = (row, int(rows[known]))
            equal = bool((self.found.numbers[both[0], :2] == self.found.numbers[both[1], :2]).all())  # size and CRC
            plain = [self.found.is_plain(number) for number in both]
            if all(plain) or not (any(plain) or equal):
                one, other = (self.found.location(number).shown for number in both)
                raise InputError(f"{one}: the same image lies at {other}; {what_to_do}")
            replaced = not self.found.is_plain(int(rows[known]))
            kept[known if replaced else at] = False
            first[name] = at if replaced else known
        return np.flatnonzero(kept)

    def _image_folders(self) -> str:
        """Return which folders do hold images, for a message."""
        counts = Counter(str(PurePosixPath(path).parent) for path in self.found.paths if self._is_image(path))
        if not counts:
            rows = enumerate(self.found.paths)  # of zips, those are read that lie in no other
            unread = (path for row, path in rows if path.lower().endswith(ARCHIVES[self.found.is_plain(row) :]))
            told = [f"; {path} is not read: unpack it into {self.root}" for path in unread]
            return f"; the folder holds no images{''.join(told[:1])}"
        names = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(MAX_FOLDERS_NAMED))
        return f"; the folders with images are {names}{' and others' * (len(counts) > MAX_FOLDERS_NAMED)}"

    def locate(self, image_paths: Iterable[str]) -> None:
        """Find images that are named but whose folder was never listed, so that a reader need not list it.

        A path is that of a file below `root`, or its end. Raises InputError if two plain files fit.
        """
        named = list(image_paths)
        wanted = {nfc(named[i]): named[i] for i in self.located.locations(named).missing().tolist()}
        if not wanted:
            return
        rows = array("q")

        def found() -> Iterator[str]:
            for row, path in enumerate(self.found.paths):
                parts = nfc(path).split("/")
                for start in range(len(parts)):
                    name = wanted.get("/".join(parts[start:]))
                    if name is not None:
                        rows.append(row)
                        yield name

        names = Texts.of(found())
        what_to_do = "remove one of the two, or name the images with their full folder"
        kept = self._without_repeats(names, np.array(rows, dtype=np.int64), what_to_do)
        self.located.add(names.pick(kept), np.array(rows, dtype=np.int64)[kept])

    def add_pixels(
        self, folder: str, images: np.ndarray, location: Location, names: Sequence[str] = (), first_row: int = 0
    ) -> list[str]:
        """Register the images that one file holds as raw pixels, as "folder/00000", "folder/00001" ..., or by `names`.

        images (N, H, W) or (N, H, W, 3) uint8, of which the file's row `first_row` is the first; returns their image
        paths.
        """
        if images.ndim == 3:
            images = np.broadcast_to(images[..., None], (*images.shape, 3))
        paths = [f"{folder}/{name}" for name in names or [f"{first_row + row:05d}" for row in range(len(images))]]
        for row, (path, image) in enumerate(zip(paths, images, strict=True), first_row):
            self.pixels[path] = image
            stamp = zlib.crc32(np.ascontiguousarray(image).data, zlib.crc32(repr(image.shape).encode()))
            self.located[path] = Location(location.file, f"{location.member}:{row}", image.size, stamp)
        return paths

    def forget(self) -> None:
        """Free what is known of the files, once their images are decoded."""
        self.found = FileTable(self.found.root)
        self.located = Located(self.found)
        self.pixels = {}

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name, or "folder/name", in any folder."""
        return next(self._called(name), None) is not None

    def _called(self, name: str) -> Iterator[Location]:
        rows = range(len(self.found)) if self._is_image(name) else self._others
        end = f"/{name}"
        return (self.found.location(row) for row in rows if f"/{self.found.paths[row]}".endswith(end))

    def find(self, name: str) -> Location:
        """Return the location of the only file of this name, or "folder/name"; a plain file goes before a member."""
        found = list(self._called(name))
        plain = [location for location in found if not location.member] or found
        if not plain:
            raise InputError(f"{self.root}: {name} is missing. {self.source}".strip())
        if len(plain) > 1:
            raise InputError(f"{self.root}: {name} appears twice: {plain[0].shown} and {plain[1].shown}; remove one")
        return plain[0]

    def table(self, name: str) -> pd.DataFrame:
        """Read a CSV as text, see `parse_csv`."""
        return parse_csv(read_location(self.find(name)), name)
