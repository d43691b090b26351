"""Reading the organiser's files: folders, zips and CSV.

Nothing is unpacked and nothing outside the competition's folder is read. A zip is read in place, as if it had been
unpacked into a folder of its own name, so image paths are the same for packed and unpacked downloads.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.zips import Location, member_name, read_location, zip_members

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
JUNK_NAMES = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
MAX_FOLDERS_NAMED = 5  # in a message


def _is_junk(parts: tuple[str, ...]) -> bool:
    return any(part in JUNK_NAMES or part.startswith("._") for part in parts)


def _walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder, in the order of names."""
    waiting = _entries(root)  # a stack: folders can be nested deeper than Python's calls
    while waiting:
        entry = waiting.pop()
        if entry.is_symlink():
            _check_link(Path(entry.path), root)
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries(entry)
        elif entry.is_file():
            yield entry


def _entries(folder: "Path | os.DirEntry[str]") -> "list[os.DirEntry[str]]":
    """Return a folder's entries, the first name last."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)


def _check_link(link: Path, root: Path) -> None:
    """Raise InputError for a symbolic link that leads out of the folder or to itself."""
    try:
        target = link.resolve(strict=False)
        link.stat()
    except FileNotFoundError:
        return  # the target is gone: the image counts as missing
    except (OSError, RuntimeError) as error:
        raise InputError(f"{link}: is a loop of symbolic links; remove it") from error
    if not target.is_relative_to(root):
        raise InputError(
            f"{link}: is a symbolic link to {target}, outside {root}; copy the file there, or link the whole folder: "
            f"ln -s {target.parent} {link.parent}"
        )


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
    located: dict[str, Location] = field(default_factory=dict)  # image_path -> where it lies
    pixels: dict[str, np.ndarray] = field(default_factory=dict, repr=False)  # image_path -> (H, W, 3) uint8, if raw
    index: dict[PurePosixPath, Location] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)  # what the user should know about the files

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder. {self.source}".strip())
        root = self.root.resolve()
        for entry in _walk(root):
            relative = PurePosixPath(Path(entry.path).relative_to(root).as_posix())
            if _is_junk(relative.parts):
                continue
            info = entry.stat()
            self.index[relative] = Location(entry.path, "", info.st_size, info.st_mtime_ns)
            if relative.suffix.lower() == ".zip":
                self._add_zip(Path(entry.path), relative)
        if not self.index:
            raise InputError(f"{self.root}: the folder is empty. {self.source}".strip())

    def _add_zip(self, path: Path, relative: PurePosixPath) -> None:
        """Add a zip's members as if it were unpacked; of those that are there twice the last, as unzip would."""
        members: dict[PurePosixPath, Location] = {}
        repeated = []
        for member in zip_members(path):
            inside = relative.with_suffix("") / PurePosixPath(member_name(member).replace("\\", "/"))
            if not _is_junk(inside.parts):
                facts = member.file_size, member.CRC, member.header_offset, member.compress_size
                repeated += [member.filename] if inside in members else []
                members[inside] = Location(str(path), member.filename, *facts)
        if repeated:
            self.notes.append(
                f"note: {path} holds {len(repeated)} files more than once, such as {repeated[0]}; the last of each is "
                "read, as unzip would leave it"
            )
        for inside, location in members.items():
            self.index.setdefault(inside, location)  # a file that was also unpacked is taken from the folder

    def images(self, folder: str) -> list[str]:
        """List the images under every folder (or zip) called `folder`, which may be "a/b", as "folder/name", sorted.

        Raises InputError if there are none, or if two plain folders hold the same name.
        """
        found: dict[str, Location] = {}
        wanted = PurePosixPath(folder).parts
        for path, location in self.index.items():
            parts = path.parts
            starts = [at for at in range(len(parts) - len(wanted)) if parts[at : at + len(wanted)] == wanted]
            if path.suffix.lower() not in IMAGE_SUFFIXES or not starts:
                continue
            name = "/".join(parts[starts[-1] :])
            _check_encoding(location, name)
            known = found.get(name)
            if known and not known.member and not location.member:
                raise InputError(f"{location.file}: the same image lies at {known.file}; remove one of the two folders")
            if known is None or known.member:
                found[name] = location
        if not found:
            raise InputError(
                f"{self.root}: no images in a folder or zip called {folder!r}{self._image_folders()}. "
                f"{self.source}".strip()
            )
        self.located.update(found)
        return sorted(found)

    def _image_folders(self) -> str:
        """Return which folders do hold images, for a message."""
        counts = Counter(str(path.parent) for path in self.index if path.suffix.lower() in IMAGE_SUFFIXES)
        if not counts:
            return "; the folder holds no images"
        names = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(MAX_FOLDERS_NAMED))
        return f"; the folders with images are {names}{' and others' * (len(counts) > MAX_FOLDERS_NAMED)}"

    def locate(self, image_paths: Iterable[str]) -> None:
        """Find images that are named but whose folder was never listed, so that a reader need not list it.

        A path is that of a file below `root`, or its end. Raises InputError if two plain files fit.
        """
        wanted = {nfc(path): path for path in image_paths if path not in self.located}
        if not wanted:
            return
        for path, location in self.index.items():
            parts = nfc(str(path)).split("/")
            for start in range(len(parts)):
                name = wanted.get("/".join(parts[start:]))
                if name is None:
                    continue
                known = self.located.get(name)
                if known and not known.member and not location.member:
                    raise InputError(
                        f"{location.file}: the same image lies at {known.file}; remove one of the two, or name the "
                        "images with their full folder"
                    )
                if known is None or known.member:
                    self.located[name] = location

    def add_pixels(self, folder: str, images: np.ndarray, location: Location) -> list[str]:
        """Register the images that one file holds as raw pixels, as "folder/00000", "folder/00001" ...

        images (N, H, W) or (N, H, W, 3) uint8; returns their image paths.
        """
        if images.ndim == 3:
            images = np.broadcast_to(images[..., None], (*images.shape, 3))
        paths = [f"{folder}/{row:05d}" for row in range(len(images))]
        for row, (path, image) in enumerate(zip(paths, images, strict=True)):
            self.pixels[path] = image
            self.located[path] = Location(location.file, f"{location.member}:{row}", image.size, location.stamp)
        return paths

    def find(self, name: str) -> Location:
        """Return the location of the only file of this name; a plain file takes precedence over a zip member."""
        found = [location for path, location in self.index.items() if path.name == name]
        plain = [location for location in found if not location.member] or found
        if not plain:
            raise InputError(f"{self.root}: {name} is missing. {self.source}".strip())
        if len(plain) > 1:
            raise InputError(f"{self.root}: {name} is there twice: {plain[0].file} and {plain[1].file}; remove one")
        return plain[0]

    def table(self, name: str) -> pd.DataFrame:
        """Read a CSV as text, see `parse_csv`."""
        return parse_csv(read_location(self.find(name)), name)
