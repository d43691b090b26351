"""Pixels of a cache that lies elsewhere: blocks fetched ahead from any URL that fsspec knows, checked, kept here.

The local JSON of the cache holds the hash of each block, so a file that was swapped, cut or damaged on the way is
noticed. While the server does not answer, training waits.
"""

import io
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Semaphore, Thread
from typing import Any

import numpy as np

from src.core.errors import InputError
from src.core.malloc import share_arenas
from src.core.progress import minutes
from src.core.signals import Stopped, stop
from src.data.local_blocks import LocalBlocks
from src.data.pixels import BYTES, Pixels, hash_block, height_of

AHEAD = 16  # blocks that are read ahead of the one that is needed
CONNECTIONS = 8  # of them fetched at the same time; the others are checked, written, or wait for their turn
HEADER = 128  # bytes, of which numpy's format needs as many for any cache
TIMEOUT = 60  # seconds for one block
PATIENCE = 480.0  # seconds without an answer before training gives up: sooner than the other ranks (--rank-timeout)
PATIENCE_AT_START = 15.0  # as the URL is probably wrong
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0  # seconds; each is twice the one before
WRONG = 4  # fetches of a block whose hash differs before the file counts as damaged
WRONG_URL = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, ValueError, TypeError)
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"max_pool_connections": 2 * CONNECTIONS, "connect_timeout": 10, "read_timeout": TIMEOUT}}
}


class Damaged(Exception):
    """What was fetched is not what was written."""


class Unreachable(Exception):
    """The server gave no answer, or not all of it; the cause is the file system's own error."""


class RemoteFile:
    """A file at a URL, read in parts; several threads may read."""

    def __init__(self, url: str) -> None:
        """Raises InputError if the URL is not one that fsspec can read here."""
        from fsspec.core import split_protocol, url_to_fs

        self.url, self.lock = url, Lock()
        self.silent_since: float | None = None
        self.turns = Semaphore(CONNECTIONS)
        try:
            self.files, self.path = url_to_fs(url, **OPTIONS.get(split_protocol(url)[0] or "", {}))
        except ImportError as error:
            raise InputError(
                f"--cache-url {url}: {error}; for S3 and HTTP, pip install -r requirements-remote.txt"
            ) from error
        except (ValueError, TypeError) as error:
            raise InputError(f"--cache-url {url}: {error}") from error

    def _fetch(self, start: int, end: int) -> bytes:
        """Return these bytes. Raises Unreachable."""
        limit = {"timeout": TIMEOUT} if self.files.async_impl else {}
        try:
            with self.turns:
                data: bytes = self.files.cat_file(self.path, start=start, end=end, **limit)
        except Exception as error:  # file systems, HTTP libraries and credentials have no error in common
            raise Unreachable(str(error) or type(error).__name__) from error
        if len(data) != end - start:
            raise Unreachable(f"{len(data):,} bytes instead of {end - start:,}")
        return data

    def read(self, start: int, end: int, check: Callable[[bytes], None], at_start: bool = False) -> bytes:
        """Return these bytes once `check` does not raise Damaged; try again, with growing waits, until it is so.

        Raises InputError if the server does not answer for PATIENCE, or if the bytes are wrong again and again.
        """
        began, wait, wrong = time.monotonic(), FIRST_WAIT, 0
        while True:
            try:
                data = self._fetch(start, end)
                check(data)
                self._answers()
                return data
            except (Unreachable, Damaged) as error:
                wrong += isinstance(error, Damaged)
                reason, cause = " ".join(str(error).split()), error.__cause__
                if at_start and isinstance(cause, WRONG_URL):
                    kind = "not there: " if isinstance(cause, FileNotFoundError) else ""
                    raise InputError(f"--cache-url: {self.url} cannot be read ({kind}{reason})") from error
                if wrong == WRONG:
                    raise InputError(f"{self.url}: is damaged ({reason}); copy it there again") from error
                waited = time.monotonic() - began
                if waited > (PATIENCE_AT_START if at_start else PATIENCE):
                    again = "" if at_start else "; run the same command again when it can"
                    raise InputError(f"{self.url}: cannot be read since {minutes(waited)} ({reason}){again}") from error
                self._note(reason)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def size(self) -> int | None:
        """Return the file's bytes, if the server says."""
        try:
            size: int | None = self.files.info(self.path).get("size")
        except OSError:
            return None
        return size

    def _note(self, reason: str) -> None:
        """Say once per outage that the file cannot be read; on every rank, as each has its own connection."""
        with self.lock:
            if self.silent_since is None:
                self.silent_since = time.monotonic()
                print(f"note: {self.url} cannot be read ({reason}); waiting", file=sys.stderr, flush=True)

    def _answers(self) -> None:
        with self.lock:
            if self.silent_since is not None:
                waited = minutes(time.monotonic() - self.silent_since)
                print(f"note: {self.url} is read again, after {waited}", file=sys.stderr, flush=True)
            self.silent_since = None


class ReadAhead:
    """Reads blocks ahead, in the order in which they will be asked for, AHEAD of them at a time."""

    def __init__(self, read: Callable[[int], np.ndarray], blocks: Sequence[int]) -> None:
        self.read, self.queue = read, deque(blocks)
        self.reading: dict[int, Future[np.ndarray]] = {}

    def _start(self, block: int) -> None:
        """Read a block in a thread that ends with it; the process can exit meanwhile."""
        future: Future[np.ndarray] = Future()

        def run() -> None:
            try:
                future.set_result(self.read(block))
            except BaseException as error:  # raised again where the block is waited for
                future.set_exception(error)

        self.reading[block] = future
        Thread(target=run, daemon=True).start()

    def __call__(self, block: int) -> np.ndarray:
        """Return a block's images. Raises Stopped if a signal asks to stop while they are waited for."""
        if block not in self.reading:
            if block in self.queue:
                self.queue.remove(block)
            self._start(block)
        while self.queue and len(self.reading) < AHEAD:
            self._start(self.queue.popleft())
        future = self.reading.pop(block)
        while not future.done():
            if stop.asked:
                raise Stopped(stop.asked)
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                continue
        return future.result()


class RemotePixels(Pixels):
    """(N, H, W, C) of a cache's .npy at a URL. Raises InputError if it is not that file."""

    def __init__(
        self,
        url: str,
        local: LocalBlocks,
        shape: tuple[int, int, int, int],
        blocks: Sequence[str],
        name: str,
        dtype: np.dtype = BYTES,
    ) -> None:
        """Read the header. `name` is the cache's, under which `local` keeps its blocks."""
        share_arenas()
        self.source, self.local, self.name = RemoteFile(url), local, name
        self.blocks, self._shape, self.dtype = blocks, shape, dtype
        self.height = height_of(self)
        self.offset = self._header() if shape[0] else 0

    def _header(self) -> int:
        """Return where the pixels begin; check shape and size."""
        data = io.BytesIO(self.source.read(0, HEADER, lambda data: None, at_start=True))
        try:
            if (version := np.lib.format.read_magic(data)) != (1, 0):
                raise ValueError(f"version {version} of the format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(data)
        except ValueError as error:
            raise InputError(f"{self.source.url}: is not a cache's .npy file ({error}); copy it there again") from error
        size, expected = self.source.size(), data.tell() + self.nbytes
        if shape != self._shape or dtype != self.dtype:
            holds = f"holds {shape} of {dtype}, not {self._shape} of {self.dtype}"
            raise InputError(f"{self.source.url}: {holds}; copy it there again")
        if size is not None and size != expected:
            raise InputError(f"{self.source.url}: has {size:,} bytes instead of {expected:,}; copy it there again")
        return data.tell()

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def nbytes(self) -> int:
        return int(np.prod(self._shape)) * self.dtype.itemsize

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return copies of images, for any index of rows that numpy takes."""
        rows = np.arange(len(self))[index]
        flat = np.atleast_1d(rows)
        out, blocks = np.empty((len(flat), *self._shape[1:]), self.dtype), flat // self.height
        needed = np.unique(blocks).tolist()
        read = self.reader(needed)
        for block in needed:
            here = blocks == block
            out[here] = read(block)[flat[here] - block * self.height]
        return out if np.ndim(rows) else out[0]

    def check_all(self) -> None:
        """Read every block."""
        read = self.reader(range(len(self.blocks)))
        for block in range(len(self.blocks)):
            read(block)

    def check_in_background(self) -> None:
        """Do nothing: blocks are checked as they come."""

    def reader(self, blocks: Sequence[int]) -> Callable[[int], np.ndarray]:
        """Return a function that returns a block's images; these blocks are fetched ahead."""
        return ReadAhead(self.read_block, blocks)

    def read_block(self, block: int) -> np.ndarray:
        """Return the images of a block: from this machine, or fetched, by one process at a time, and kept here."""
        first = block * self.height
        shape = (min(self.height, len(self) - first), *self._shape[1:])
        row = int(np.prod(shape[1:])) * self.dtype.itemsize

        def check(data: bytes) -> None:
            if hash_block(np.frombuffer(data, np.uint8)) != self.blocks[block]:
                raise Damaged(f"images {first:,} to {first + shape[0] - 1:,} differ from what was written")

        data = self._kept(block, check)
        if data is None:
            with self.local.claimed(self.name, block):
                data = self._kept(block, check)  # another process may have fetched it meanwhile
                if data is None:
                    start = self.offset + first * row
                    data = self.source.read(start, start + shape[0] * row, check)
                    self.local.write(self.name, block, data)
        return np.frombuffer(data, self.dtype).reshape(shape)

    def _kept(self, block: int, check: Callable[[bytes], None]) -> bytes | None:
        """Return a block that is here and sound, or None."""
        data = self.local.read(self.name, block)
        try:
            if data is not None:
                check(data)
        except Damaged:
            return None
        return data


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Where caches lie, and where their blocks are kept on this machine."""

    url: str
    folder: Path
    limit: int  # bytes

    def open(
        self, name: str, shape: tuple[int, int, int, int], blocks: Sequence[str], dtype: np.dtype = BYTES
    ) -> RemotePixels:
        """Open <url>/<name>.npy. Raises InputError."""
        local = LocalBlocks(self.folder, self.limit)
        return RemotePixels(f"{self.url.rstrip('/')}/{name}.npy", local, shape, blocks, name, dtype)
