"""Blocks of remote caches, kept in a folder of this machine: one file each, those used longest ago deleted.

Several processes share the folder. A file appears whole under its name, and whoever reads one checks its hash, so a
block that a power failure or a disk damaged is fetched again.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from src.core.writing import replacing

KEPT_SHARE = 0.9  # of the limit that is left when blocks are deleted, so that it is done rarely
STALE = 3600  # seconds after which a file that is still being written was left by a killed process
WAIT = 0.02  # seconds between looks at a block that another process fetches
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of file systems: blocks may be fetched twice, no harm


class LocalBlocks:
    """<folder>/<cache>/<block>: at most `limit` bytes in all, those that are being written aside."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.claims: dict[str, int] = {}  # open files
        self.lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._count(None)

    def __del__(self) -> None:
        for file in self.claims.values():
            os.close(file)

    def path(self, cache: str, block: int) -> Path:
        return self.folder / cache / f"{block:07d}"

    def read(self, cache: str, block: int) -> bytes | None:
        """Return a block's bytes, or None if it is not here."""
        path = self.path(cache, block)
        try:
            data = path.read_bytes()
            os.utime(path)  # the time of its last use
        except FileNotFoundError:
            return None
        return data

    def write(self, cache: str, block: int, data: bytes) -> None:
        """Keep a block; delete those used longest ago if the limit is exceeded."""
        path = self.path(cache, block)
        new = not path.exists()
        with replacing(path, to_disk=False) as temporary:
            temporary.write_bytes(data)
        if new:
            self._count(len(data))

    @contextmanager
    def claimed(self, cache: str, block: int) -> Iterator[None]:
        """Let one process at a time fetch a block; the system gives up the claim of one that dies.

        The lock is on byte number `block` of a file that stays open: closing it anywhere would give up all claims.
        """
        with self.lock:
            if cache not in self.claims:
                (self.folder / cache).mkdir(parents=True, exist_ok=True)
                self.claims[cache] = os.open(
                    self.folder / cache / ".claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
                )
        file = self.claims[cache]
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
                break
            except OSError as error:
                if error.errno in NO_LOCKS:
                    break
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
            time.sleep(WAIT)
        try:
            yield
        finally:
            try:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, block)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise

    def _count(self, added: int | None) -> None:
        """Add to the bytes that all processes keep here, or count them anew; delete blocks if there are too many."""
        with open(self.folder / ".bytes", "ab+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            stream.seek(0)
            known = stream.read()
            total = int(known) + added if added is not None and known.isdigit() else self.limit + 1
            if total > self.limit:
                total = self._delete_oldest()
            stream.truncate(0)
            stream.write(str(total).encode())

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield when each block was last used, its bytes and its path; delete what killed processes left."""
        for caches in [path for path in self.folder.iterdir() if path.is_dir()]:
            for entry in os.scandir(caches):
                try:
                    state = entry.stat()
                except FileNotFoundError:  # another process deleted it
                    continue
                if entry.name.isdecimal():
                    yield state.st_mtime, state.st_size, entry.path
                elif entry.name.endswith(".tmp") and time.time() - state.st_mtime > STALE:
                    Path(entry).unlink(missing_ok=True)

    def _delete_oldest(self) -> int:
        """Delete the blocks used longest ago if all exceed the limit; return the bytes that are left."""
        found = list(self._files())
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return total
        for _, size, path in sorted(found):
            if total <= KEPT_SHARE * self.limit:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        return total
