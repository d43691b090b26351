"""Folder locks, and the temporary files that killed processes leave behind."""

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.core.errors import InputError

STARTED = time.time()
ELSEWHERE = 24 * 3600  # seconds from which another machine's temporary file is of a killed process


def _host() -> str:
    """Return what stands for this machine, or this container, in names of files: its processes' ids mean nothing
    elsewhere."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def temporary_of(path: Path) -> Path:
    """Return a name next to `path` that no other process uses: .<name>.<host>-<pid>-<random>.tmp."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{os.urandom(4).hex()}.tmp")


def _is_stale(path: Path) -> bool:
    """Return whether the process that a temporary file or folder is named after is dead, or elsewhere and long done."""
    host, _, rest = path.name.split(".")[-2].partition("-")
    pid = rest.partition("-")[0]
    if not pid.isdecimal():
        return True  # not of this program's making, but where only it writes
    try:
        if host != _host():
            return path.stat().st_mtime < STARTED - ELSEWHERE
        if int(pid) == os.getpid():  # in containers every command can have the same pid
            return path.stat().st_mtime < STARTED
        os.kill(int(pid), 0)
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def delete_stale(folder: Path) -> None:
    """Delete temporary files and folders of dead processes in `folder`."""
    for path in folder.glob(".*.tmp"):
        if not _is_stale(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _open_lock(path: Path) -> tuple[int, str] | None:
    """Return a descriptor of a lock file and its mode, or None if there is none and none can be made.

    Not through a symbolic link: the process id would overwrite what it points to. One that another user made can often
    only be read, which is enough to lock it.
    """
    for flags, mode in ((os.O_RDWR | os.O_CREAT, "r+"), (os.O_RDONLY, "r")):
        try:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), mode
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InputError(f"{path}: is a symbolic link; remove it") from error
            if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOENT):
                raise
    return None


@contextmanager
def locked(folder: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock file next to a folder and delete the temporary files of killed processes in the folder.

    The system releases the lock however the process ends. `what` says what this process does, as in "is training
    fold0". Another process that holds the lock is waited for if `wait`; otherwise raises InputError.
    """
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open_lock(path)
    if file is None:
        yield  # read-only: no command can write here
        return
    with os.fdopen(*file) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InputError(f"{path.parent}: process {stream.read().strip() or '?'} {what}; wait for it") from error
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
            print(f"note: {path.parent} is on a file system without locks: do not run two commands on the same run")
        else:
            delete_stale(folder)
        if stream.writable():
            stream.seek(0)
            stream.truncate()
            stream.write(f"{os.getpid()}\n")
            stream.flush()
        yield
