"""All files of a list of links, a few at a time, into input/<competition>/."""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from src.core.errors import InputError
from src.core.locking import delete_stale, locked
from src.core.progress import Progress
from src.core.reading import DOWNLOAD, PARTIAL
from src.handin.fetch import Fetcher, Halted, Part
from src.handin.links import Link

MB = 10**6


def missing_links(links: Sequence[Link], folder: Path, replace: bool) -> list[Link]:
    """Return the links whose files are not there yet. Raises InputError for a file of another size than the list's."""
    missing = []
    for link in links:
        path = folder / link.name
        if not path.parent.resolve().is_relative_to(folder.resolve()) or path.is_dir():
            raise InputError(f"{link.where}: {link.name} would be written outside {folder}, or over a folder; move it")
        if replace or not path.exists():
            missing.append(link)
        elif link.size and not link.size.fits(path.stat().st_size):
            raise InputError(
                f"{path}: has {path.stat().st_size:,} bytes where {link.where} says {link.size.text}; move it away, or "
                "give --replace to download it again"
            )
    return missing


def check_room(links: Sequence[Link], folder: Path) -> None:
    """Raise InputError if the disk cannot hold the files, as far as the list gives their sizes."""
    parts = [(link.size.most, Part(folder / PARTIAL / link.name).size()) for link in links if link.size]
    needed, free = sum(most - have for most, have in parts), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: the files take {needed / MB:,.0f} MB and {free / MB:,.0f} MB are free; make "
            "room, or give another --input-dir"
        )


class _Bytes:
    """Counts bytes from several threads into one progress bar of MB."""

    def __init__(self, progress: Progress, initial: int) -> None:
        self.progress, self.lock = progress, threading.Lock()
        self.total, self.shown = initial, initial // MB

    def __call__(self, count: int) -> None:
        with self.lock:
            self.total += count
            step = self.total // MB - self.shown
            if step:
                self.progress.update(step)
                self.shown += step


def download_links(links: Sequence[Link], folder: Path, connections: int, replace: bool = False) -> int:
    """Download what is missing of a list into `folder`; return how many files that was.

    Raises InputError for a full disk, and after all others have been tried for files that cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / PARTIAL
    with locked(folder / DOWNLOAD, "is downloading into this folder"):
        delete_stale(partial)
        missing = missing_links(links, folder, replace)
        check_room(missing, folder)
        have = sum(Part(partial / link.name).size() for link in missing)
        sizes = [link.size.most for link in missing if link.size]
        total = max(1, sum(sizes) // MB) if len(sizes) == len(missing) else None  # unless the list gives all sizes
        with Progress(f"downloading into {folder}", total, "MB", have // MB) as progress:
            problems = _download(
                missing, Fetcher(folder=folder, partial=partial, arrived=_Bytes(progress, have)), connections
            )
        if problems:
            others = f"; {len(problems) - 1} more files failed too" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{others}")
        shutil.rmtree(partial, ignore_errors=True)
    return len(missing)


def _download(links: Sequence[Link], fetcher: Fetcher, connections: int) -> list[str]:
    """Download all links; return what was wrong with those that failed. Stops all threads if this one is stopped."""
    with ThreadPoolExecutor(connections) as pool:
        futures: list[Future[None]] = [pool.submit(fetcher.fetch, link) for link in links]
        try:
            wait(futures)
        finally:
            fetcher.halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
    problems = []
    for future in futures:
        error = future.exception()
        if isinstance(error, InputError):
            problems.append(str(error))
        elif error is not None and not isinstance(error, Halted):
            raise error
    return problems
