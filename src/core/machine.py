"""How many cores and how much memory this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit_files() -> Iterator[Path]:
    """Yield the files that may hold a container's memory limit: of this process's group, and at the root it sees."""
    groups = ["0::/", "0:memory:/", *(OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else ())]
    for line in groups:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath("/", path).relative_to("/")
        for folder in (group, *group.parents):  # any group above limits it too
            if not controllers:
                yield CGROUPS / folder / "memory.max"
            elif "memory" in controllers.split(","):
                yield CGROUPS / "memory" / folder / "memory.limit_in_bytes"


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less in a container."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _limit_files():
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():
            limit = min(limit, int(text))
    return limit
