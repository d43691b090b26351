"""Files in place: plain ones and members of zips, which are not unpacked."""

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from src.core.errors import InputError

MAX_FILE_BYTES = 1 << 30  # one label file or image may not unpack to more than 1 GiB


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
    writable = name.encode(errors="ignore").decode() == name  # an unpaired surrogate cannot be written
    if not name or not writable or "\0" in name or name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        raise InputError(f"{where}: file name {name!r} is not a plain relative name; correct it in that file")
    return name


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


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
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
