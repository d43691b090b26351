"""Reading the organiser's files: folders, zips and CSV.

Nothing is unpacked and nothing outside the competition's folder is read. A zip is read in place, as if it had been
unpacked into a folder of its own name, so image paths are the same for packed and unpacked downloads.
"""

import csv
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from src.core.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
JUNK_NAMES = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
MAX_FILE_BYTES = 1 << 30  # one label file or image may not unpack to more than 1 GiB
MAX_FOLDERS_NAMED = 5  # in a message


class Location(NamedTuple):
    """Where the bytes of a file lie: a plain file (member is ""), a member of a zip, or a row of a file of pixels."""

    file: str
    member: str
    size: int  # bytes, unpacked
    stamp: int  # mtime in ns of a plain file, CRC-32 of a zip member
    offset: int = 0  # where a zip member's own header begins
    packed: int = 0  # bytes of a zip member in the zip


def checked_name(name: str, where: str) -> str:
    """Return a relative file name found in a label file, or raise InputError if it could leave the folder."""
    parts = name.replace("\\", "/").split("/")
    writable = name.encode(errors="ignore").decode() == name  # half a surrogate pair is no character
    if not name or not writable or "\0" in name or name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        raise InputError(f"{where}: file name {name!r} is not a plain relative name; correct it in that file")
    return name


def _is_junk(parts: tuple[str, ...]) -> bool:
    return any(part in JUNK_NAMES or part.startswith("._") for part in parts)


def _walk(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink():
                target = Path(entry.path).resolve()
                if not target.is_relative_to(root):
                    raise InputError(
                        f"{entry.path}: is a symbolic link to {target}, outside {root}; copy the file there, "
                        f"or link the whole folder: ln -s {target.parent} {folder}"
                    )
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), root)
            elif entry.is_file():
                yield entry


def member_name(info: zipfile.ZipInfo) -> str:
    """Return a zip member's name; one without the UTF-8 flag may be UTF-8 all the same, or Chinese Windows' GBK."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    for encoding in ("utf-8", "gb2312"):  # the common part of GBK; the rest would make "MÅller" Chinese
        try:
            return info.filename.encode("cp437").decode(encoding)
        except UnicodeError:
            continue
    return info.filename


def _zip_members(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: not a readable zip ({error}); download it again") from error
    for info in members:
        checked_name(member_name(info), str(path))
        if info.flag_bits & 1:
            raise InputError(f"{path}: member {info.filename!r} is encrypted; unpack it into the folder {path.parent}")
    return members


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

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder. {self.source}".strip())
        root = self.root.resolve()
        for entry in _walk(root, root):
            relative = PurePosixPath(Path(entry.path).relative_to(root).as_posix())
            if _is_junk(relative.parts):
                continue
            info = entry.stat()
            self.index[relative] = Location(entry.path, "", info.st_size, info.st_mtime_ns)
            if relative.suffix.lower() == ".zip":
                for member in _zip_members(Path(entry.path)):
                    inside = relative.with_suffix("") / PurePosixPath(member_name(member).replace("\\", "/"))
                    if not _is_junk(inside.parts):
                        # A file that was also unpacked is taken from the folder.
                        facts = member.file_size, member.CRC, member.header_offset, member.compress_size
                        self.index.setdefault(inside, Location(entry.path, member.filename, *facts))
        if not self.index:
            raise InputError(f"{self.root}: the folder is empty. {self.source}".strip())

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
        wanted = {path for path in image_paths if path not in self.located}
        if not wanted:
            return
        for path, location in self.index.items():
            for start in range(len(path.parts)):
                name = "/".join(path.parts[start:])
                if name not in wanted:
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


def read_location(location: Location) -> bytes:
    """Return a file's bytes. Raises InputError or OSError."""
    if location.size > MAX_FILE_BYTES:
        raise InputError(f"{location.file}: {location.member} unpacks to {location.size:,} bytes; remove it")
    if not location.member:
        return Path(location.file).read_bytes()
    try:
        return _unpacked(location)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError) as error:
        raise InputError(f"{location.file}: {location.member} is damaged ({error}); download it again") from error


def _unpacked(location: Location) -> bytes:
    """Return a zip member's bytes without reading the zip's directory, which may list a million others."""
    if location.offset < 0:
        raise zipfile.BadZipFile("the zip's beginning is cut off")
    with open(location.file, "rb") as stream:
        stream.seek(location.offset)
        header = stream.read(30)  # its compression is at 8, the lengths of the name and extras that follow at 26
        if not header.startswith(b"PK\3\4") or len(header) < 30:
            raise zipfile.BadZipFile("its header is not where the directory says")
        compression, name, extra = struct.unpack_from("<8xH16xHH", header)
        stream.seek(name + extra, os.SEEK_CUR)
        data = stream.read(location.packed)
    if compression == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, location.size + 1)
    elif compression != zipfile.ZIP_STORED:  # rare, so the directory may be read
        with zipfile.ZipFile(location.file) as archive, archive.open(location.member) as member:
            return member.read(location.size + 1)
    if len(data) != location.size or zlib.crc32(data) != location.stamp:
        raise zipfile.BadZipFile("its checksum is wrong")
    return data


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, with or without BOM. Raises InputError with the line if it is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line}: byte {data[error.start]:#04x} is not UTF-8; save it as UTF-8"
        ) from error


def parse_csv(data: bytes, name: str) -> pd.DataFrame:
    """Parse CSV bytes as text, without any conversion: "000123", "NA" and "1e5" stay as they are.

    Returns a frame of str whose index is the line number in the file. Raises InputError with the line for a row with
    too many or too few cells, an open quote, a NUL, a repeated column, or no header.
    """
    text = decoded(data, name)
    if "\0" in text:
        raise InputError(f"{name}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: NUL byte; download it again")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        header = next(reader, [])
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{name}, line {reader.line_num}: {len(row)} cells where the header has {len(header)}; "
                    "is the file cut off, or a comma not quoted?"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}; is the file cut off?") from error
    if not header or not any(header):
        raise InputError(f"{name}: empty, a header line is expected")
    repeated = {column for column in header if header.count(column) > 1}
    if repeated:
        raise InputError(f"{name}, line 1: column {sorted(repeated)[0]!r} is there twice")
    return pd.DataFrame(rows, columns=header, index=lines, dtype=str)
