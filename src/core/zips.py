"""Files in place: plain ones and members of zips, which are not unpacked."""

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from src.core.errors import InputError

ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # of a zip's directory, before name, extra fields and comment
LARGE = 0xFFFFFFFF  # the number is in an extra field
MAX_FILE_BYTES = 1 << 30  # one label file or image may not unpack to more than 1 GiB


class Location(NamedTuple):
    """Where the bytes of a file lie: a plain file (member is ""), a member of a zip, or a row of a file of pixels."""

    file: str
    member: str
    size: int  # bytes, unpacked
    stamp: int  # mtime in ns of a plain file, CRC-32 of a zip member
    offset: int = 0  # where a zip member's own header begins
    packed: int = 0  # bytes of a zip member in the zip
    crop: tuple[float, float, float, float] | None = None  # the part of an image that is used, see data/crops.py

    @property
    def shown(self) -> str:
        """The file, and what in it, for a message."""
        return f"{self.file}, {self.member}" if self.member else self.file


def checked_name(name: str, where: str) -> str:
    """Return a relative file name found in a label file, or raise InputError if it could leave the folder."""
    parts = name.replace("\\", "/").split("/")
    writable = name.encode(errors="ignore").decode() == name  # an unpaired surrogate cannot be written
    if not name or not writable or "\0" in name or name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        raise InputError(f"{where}: file name {name!r} is not a plain relative name; correct it in that file")
    return name


class Member(NamedTuple):
    """A file in a zip, as its directory describes it; names as in zipfile.ZipInfo."""

    filename: str
    flag_bits: int
    file_size: int  # bytes, unpacked
    CRC: int
    header_offset: int
    compress_size: int


def member_name(info: Member | zipfile.ZipInfo) -> str:
    """Return a zip member's name; one without the UTF-8 flag may be UTF-8 all the same, or Chinese Windows' GBK."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    for encoding in ("utf-8", "gb2312"):  # the common part of GBK; the rest would make "MÅller" Chinese
        try:
            return info.filename.encode("cp437").decode(encoding)
        except UnicodeError:
            continue
    return info.filename


def zip_members(path: Path) -> Iterator[Member]:
    """Yield the files in a zip. Raises InputError for one that is broken, encrypted, or would leave its folder."""
    try:
        directory, count = _directory(path)
        for member in _members(directory, count) if _is_ordinary(directory, count) else _any_members(path):
            if member.filename.endswith("/"):
                continue
            checked_name(member_name(member), str(path))
            if member.flag_bits & 1:
                raise InputError(
                    f"{path}: member {member.filename!r} is encrypted; unpack it into the folder {path.parent}"
                )
            yield member
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable zip ({error}); download it again") from error


def _any_members(path: Path) -> Iterator[Member]:
    """Yield the members of any zip, as zipfile finds them: 700 bytes of memory each."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            yield Member(
                info.filename, info.flag_bits, info.file_size, info.CRC, info.header_offset, info.compress_size
            )


def _directory(path: Path) -> tuple[bytes, int]:
    """Return the directory of an ordinary zip, and how many entries it has; of another zip nothing, and 0.

    Ordinary: in one piece, without a comment or anything before the first member. Source: PKWARE, APPNOTE.TXT 4.3.
    """
    with open(path, "rb") as stream:
        total = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, total - 98))
        tail = stream.read()
        if len(tail) < 98 or tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
            return b"", 0
        disk, _, _, count, size, start = struct.unpack_from("<4H2L", tail, 98 - 18)
        end = total - 22
        if tail[-42:-38] == b"PK\6\7":  # zip64: more than 65,535 members, or 4 GiB
            if tail[:4] != b"PK\6\6" or struct.unpack_from("<Q", tail, 4)[0] != 44:
                return b"", 0
            count, size, start = struct.unpack_from("<3Q", tail, 32)
            end = total - 98
        if disk or start + size != end:
            return b"", 0
        stream.seek(start)
        return stream.read(size), count


def _is_ordinary(directory: bytes, count: int) -> bool:
    """Return whether every entry is one that `_members` understands; all else is left to zipfile."""
    try:
        return sum(1 for _ in _members(directory, count)) > 0
    except ValueError:
        return False


def _members(directory: bytes, count: int) -> Iterator[Member]:
    """Yield the entries of a directory, folders too. Raises ValueError for anything unusual."""
    at = 0
    for _ in range(count):
        if len(directory) - at < ENTRY.size:
            raise ValueError("cut off")
        signature, _, _, version, _, flags, _, _, _, crc, *rest = ENTRY.unpack_from(directory, at)
        packed, size, long_name, long_extra, long_comment, _, _, _, offset = rest
        name_end = at + ENTRY.size + long_name
        name, extra = directory[at + ENTRY.size : name_end], directory[name_end : name_end + long_extra]
        if signature != b"PK\1\2" or version > 63 or not name or b"\0" in name:
            raise ValueError("not an entry, or of a newer format")
        if extra:
            size, packed, offset = _with_extra(extra, [size, packed, offset])
        at = name_end + long_extra + long_comment
        yield Member(name.decode("utf-8" if flags & 0x800 else "cp437"), flags, size, crc, offset, packed)
    if at != len(directory):
        raise ValueError("more than its entries")


def _with_extra(extra: bytes, numbers: list[int]) -> list[int]:
    """Return size, packed and offset of an entry; those over 4 GiB are in its extra fields."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        large = [i for i, number in enumerate(numbers) if number == LARGE]
        if kind == 0x7075 or len(extra) < 4 + length or (kind == 1 and length < 8 * len(large)):
            raise ValueError("another name, or cut off")
        if kind == 1:
            for i, number in zip(large, struct.unpack_from(f"<{len(large)}Q", extra, 4), strict=True):
                numbers[i] = number
        extra = extra[4 + length :]
    return numbers


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
