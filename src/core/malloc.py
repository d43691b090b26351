"""How glibc's malloc keeps and shares memory; without torch, which prepare does not need."""

import ctypes
import ctypes.util
import sys


def keep_freed_memory() -> None:
    """Let glibc keep what torch frees for the next step instead of returning it to the system each time.

    A CPU step allocates and frees the same large activations again and again; without this a fifth of its time went
    into page faults (benchmarks/memory.py). Does nothing with another C library.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    _mallopt({mmap_threshold: 1 << 30, trim_threshold: (1 << 31) - 1})


def share_arenas() -> None:
    """Let glibc's threads allocate from two arenas: many threads that read large blocks would leave holes in many.

    Otherwise an epoch on a remote cache took some 30 MiB more than the one before (benchmarks/remote_memory.py).
    """
    _mallopt({-8: 2})  # M_ARENA_MAX


def return_freed_memory() -> None:
    """Give what was freed back to the system: reading tables of a million rows leaves 200 MiB of holes behind.

    Does nothing with another C library.
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim:
        trim(0)


def _libc() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    return ctypes.CDLL(name) if name else None


def _mallopt(options: dict[int, int]) -> None:
    """Set options of glibc's malloc; do nothing with another C library."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt:
        for option, value in options.items():
            mallopt(option, value)
