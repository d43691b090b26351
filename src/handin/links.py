"""An organiser's list of links: a CSV with the columns file, link and perhaps size, as Tianchi gives it."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from src.core.csv_text import check_columns, read_csv
from src.core.errors import InputError
from src.core.reading import PARTIAL
from src.core.zips import checked_name

UNITS = {"": 0, "b": 0, "k": 1, "kb": 1, "kib": 1, "m": 2, "mb": 2, "mib": 2, "g": 3, "gb": 3, "gib": 3}


@dataclass(frozen=True)
class Size:
    """A size as people write it, such as 345.91MB: rounded, and of 1,000 or of 1,024 bytes to the kilobyte."""

    text: str
    number: float
    step: float  # of the last digit
    power: int

    def fits(self, num_bytes: int) -> bool:
        """Return whether a file of so many bytes can have been given this size."""
        return any(abs(num_bytes / base**self.power - self.number) <= self.step for base in (1000, 1024))

    @property
    def most(self) -> int:
        """The largest number of bytes that fits."""
        return int((self.number + self.step) * 1024**self.power)


def parse_size(text: str, where: str) -> Size | None:
    """Return the size that a cell gives, or None if it is empty. Raises InputError."""
    if not text.strip():
        return None
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*([a-z]*)", text.strip().lower())
    if not found or found[3] not in UNITS:
        raise InputError(f"{where}: size {text!r} is not one such as 345.91MB; correct it")
    power = UNITS[found[3]]
    step = 10.0 ** -len(found[2] or "") if power else 0.0
    return Size(text.strip(), float(f"{found[1]}.{found[2] or 0}"), step, power)


@dataclass(frozen=True, kw_only=True)
class Link:
    """One file of the list."""

    name: str  # below the competition's folder
    url: str
    size: Size | None
    where: str  # list and line, for messages


def secure(url: str, where: str) -> str:
    """Return the address over https. Raises InputError for what cannot be had that way.

    Tianchi's lists say http; its servers answer the same paths over https.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # an empty or overlong part of the name would fail in the socket
    except ValueError as error:
        raise InputError(f"{where}: the link is not an address; correct it") from error
    if parts.scheme == "http" and port is None:
        parts = parts._replace(scheme="https")
    shown = f"{parts.scheme}://{host or ''}"  # the rest may hold passwords or signatures
    if "@" in parts.netloc:
        raise InputError(
            f"{where}: the link to {shown} has a user name or password in it; only links without are downloaded"
        )
    if parts.scheme != "https" or not host or not url.strip().isascii() or re.search(r"\s", url):
        raise InputError(f"{where}: the link to {shown} is not an https address; only those are downloaded")
    return urlunsplit(parts)


def read_links(path: Path) -> list[Link]:
    """Read a list of links. Raises InputError naming the line for a name, an address or a size that cannot be used."""
    table = read_csv("--links", path)
    check_columns(table, ("file", "link"), str(path))
    links: dict[str, Link] = {}
    for line, row in table.iterrows():
        where = f"{path}, line {line}"
        name = checked_name(row["file"].strip(), where).replace("\\", "/")
        parts = name.split("/")
        if not all(parts) or parts[0].startswith(PARTIAL) or "." in parts or not name.isprintable():
            raise InputError(f"{where}: file name {name!r} is not a plain relative name; correct it in that file")
        if name in links:
            raise InputError(f"{where}: {name!r} appears twice; remove one")
        size = parse_size(row["size"], where) if "size" in table.columns else None
        links[name] = Link(name=name, url=secure(row["link"], where), size=size, where=where)
    if not links:
        raise InputError(f"{path}: has no rows; download the list again")
    return list(links.values())
