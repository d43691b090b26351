"""One file over https: resumed where it stopped, checked, and complete under its name or not there.

What has arrived lies in .partial/ beside the organiser's files, with a JSON file that says which file it is a part of
(ETag or date), so that it is continued only if the server still has that very file.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from src.core.errors import InputError
from src.core.writing import write_json
from src.handin.links import Link

CHUNK = 1 << 18  # bytes
TIMEOUT = 20.0  # seconds without a byte
MAX_FAILURES = 6  # in a row, without a byte more than before
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds; each is twice the one before
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
KEPT = "run the same command again: what has arrived is kept"


class TryAgain(Exception):
    """What may go better the next time; `wait` is how many seconds the server asks for."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class Halted(Exception):
    """Another file failed for good, or the command was stopped."""


@dataclass(frozen=True)
class Origin:
    """Which file a part belongs to."""

    total: int | None  # bytes of the whole file, if the server says so
    validator: str | None  # a strong ETag, or the date of the last change
    md5: str | None  # hex, if the server says so, as Alibaba's OSS does


@dataclass(frozen=True)
class Part:
    """A file that has not arrived to its end, and its origin beside it."""

    file: Path

    @property
    def note(self) -> Path:
        return self.file.with_name(self.file.name + ".json")

    def size(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    def origin(self) -> Origin | None:
        """Return what the bytes belong to; None if there are none, or it is not known."""
        try:
            return Origin(**json.loads(self.note.read_text(encoding="utf-8"))) if self.size() else None
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Forget what has arrived."""
        self.delete()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.note, asdict(origin))

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            shown = f"{urlsplit(newurl).scheme}://{urlsplit(newurl).hostname}"
            raise InputError(f"{req.host}: redirects to {shown}, which is not https; it is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def refusal(link: Link, code: int, body: bytes) -> str:
    """Return one line for a link that is refused; OSS and S3 answer with XML that says why."""
    text = body[:10_000].decode("utf-8", errors="replace")
    parts = [re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message")]
    said = ": ".join("".join(filter(str.isprintable, part[1]))[:120] for part in parts if part)
    told = f"{link.where}: {link.name}: {{}} ({code}{' ' + said if said else ''}); "
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(link.url).query).items()}
    until = query.get("expires", "")
    if "expired" in said.lower() or (until.isdecimal() and int(until) < time.time()):
        what = "the link has expired"
    elif code in (404, 410):
        what = "the link leads to no file any more"
    else:
        what = "the server refuses the link, which may have expired"
    return told.format(what) + "get a new list of links from the competition's page and run this with it"


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Downloads files into a folder; several threads may use one."""

    folder: Path
    partial: Path
    arrived: Callable[[int], None]  # is told of bytes; a negative number if some are thrown away
    halt: threading.Event = field(default_factory=threading.Event)
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, link: Link) -> None:
        """Download one file to its end. Raises InputError if it cannot be had, Halted."""
        part, failures = Part(self.partial / link.name), 0
        most = part.size()
        while True:
            try:
                self._attempt(link, part)
                break
            except TryAgain as error:
                failures = 0 if part.size() > most else failures + 1
                most = max(most, part.size())
                if failures >= MAX_FAILURES:
                    raise InputError(
                        f"{link.where}: {link.name}: {error}, {failures} times in a row; {KEPT}"
                    ) from error
                self.halt.wait(max(error.wait, min(FIRST_WAIT * 2**failures, LONGEST_WAIT)))
            if self.halt.is_set():
                raise Halted
        target = self.folder / link.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part.file, target)
        part.delete()

    def _attempt(self, link: Link, part: Part) -> None:
        """Ask once for what is missing. Raises TryAgain, InputError, Halted."""
        origin, have = part.origin(), part.size()
        if origin is None or origin.validator is None or (origin.total is not None and have > origin.total):
            self._forget(part)
            origin, have = None, 0
        if origin is None or have != origin.total:
            headers = {"User-Agent": "podium", "Accept-Encoding": "identity"}
            if origin and origin.validator:
                headers |= {"Range": f"bytes={have}-", "If-Range": origin.validator}
            try:
                with self._open(link, headers) as response:
                    origin = self._check_answer(link, part, origin, response)
                    self._write(part, response)
            except (OSError, http.client.HTTPException) as error:  # reset, timed out, cut, no route
                if isinstance(error, OSError) and error.filename:  # of our own disk
                    raise
                raise TryAgain(f"the connection failed ({error or type(error).__name__})") from error
        self._check_whole(link, part, origin)

    def _open(self, link: Link, headers: dict[str, str]) -> Any:
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self.context), _OnlyHttps())
        request = urllib.request.Request(link.url, headers=headers)
        try:
            return opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # what is here is longer than the file there
                    self._forget(Part(self.partial / link.name))
                    raise TryAgain("the file has changed on the server") from error
                if error.code in TRY_AGAIN:
                    later = error.headers.get("Retry-After", "")
                    wait = min(float(later), 2 * LONGEST_WAIT) if later.isdecimal() else 0.0
                    raise TryAgain(f"the server answers {error.code}", wait) from error
                raise InputError(refusal(link, error.code, error.read(10_000))) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                reason = error.reason.verify_message
                raise InputError(
                    f"{link.where}: {link.name}: the server's certificate is not valid: {reason}"
                ) from error
            raise

    def _check_answer(self, link: Link, part: Part, origin: Origin | None, response: Any) -> Origin:
        """Return what the coming bytes are part of; forget those that are here if the server sends all of them."""
        length = response.headers.get("Content-Length", "")
        if response.status == 206 and origin:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            same = found and int(found[1]) == part.size() and found[2] in ("*", str(origin.total))
            if not same:
                self._forget(part)
                raise TryAgain("the server sends another part than was asked for")
            return origin
        if response.status != 200:
            raise InputError(f"{link.where}: {link.name}: the server answers {response.status}; try another link")
        if response.headers.get_content_type() == "text/html" and not link.name.endswith((".html", ".htm")):
            raise InputError(
                f"{link.where}: {link.name}: the server answers with a web page, not with the file; is the link one "
                "that needs a login?"
            )
        total = int(length) if length.isdecimal() else None
        if total is not None:
            check_size(link, total)
            room = shutil.disk_usage(part.file.parent if part.file.parent.exists() else self.folder).free
            if total > room:
                raise InputError(f"{self.folder}: {link.name} has {total:,} bytes and {room:,} are free; make room")
        etag, md5 = response.headers.get("ETag", ""), response.headers.get("Content-MD5", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        try:
            digest = base64.b64decode(md5, validate=True).hex() if md5 else None
        except ValueError:
            digest = None
        self._forget(part)
        found_origin = Origin(total, validator, digest)
        part.begin(found_origin)
        return found_origin

    def _write(self, part: Part, response: Any) -> None:
        with open(part.file, "ab") as stream:
            while data := response.read(CHUNK):
                try:
                    stream.write(data)
                except OSError as error:  # a full disk is not the network's fault
                    error.filename = str(part.file)
                    raise
                self.arrived(len(data))
                if self.halt.is_set():
                    raise Halted
            stream.flush()
            os.fsync(stream.fileno())

    def _check_whole(self, link: Link, part: Part, origin: Origin) -> None:
        """Raise TryAgain unless the whole file has arrived as the server has it, InputError if it is another one."""
        size = part.size()
        if origin.total is not None and size != origin.total:
            if size > origin.total:
                self._forget(part)
            raise TryAgain(f"{size:,} of {origin.total:,} bytes arrived")
        if origin.total is None:
            check_size(link, size)
        if origin.md5:
            with open(part.file, "rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if digest != origin.md5:
                self._forget(part)
                raise TryAgain("the file was damaged on the way (its MD5 differs)")

    def _forget(self, part: Part) -> None:
        self.arrived(-part.size())
        part.delete()


def check_size(link: Link, num_bytes: int) -> None:
    """Raise InputError if a file cannot be the one that the list means."""
    if link.size and not link.size.fits(num_bytes):
        raise InputError(
            f"{link.where}: {link.name}: the server's file has {num_bytes:,} bytes, the list says {link.size.text}; "
            "the link leads to another file, get a new list"
        )
