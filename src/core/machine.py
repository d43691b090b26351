"""How many cores and how much memory this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def num_cores() -> int:
    """Return how many cores this process may use: those of its affinity, or fewer in a container (docker --cpus)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for text in _limits("cpu", "cpu.max", ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        quota, period = [*text.split(), "", ""][:2]
        if quota.isdigit() and period.isdigit() and int(period):  # otherwise "max" or -1: no limit
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less in a container."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for text in _limits("memory", "memory.max", ("memory.limit_in_bytes",)):
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def _limits(controller: str, name: str, old_names: tuple[str, ...]) -> Iterator[str]:
    """Yield the limits of a container, of this process's group and those above: the words of a file of cgroups v2, or
    of some files of v1."""
    groups = ["0::/", f"0:{controller}:/", *(OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else ())]
    for line in groups:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath("/", path).relative_to("/")
        for folder in (group, *group.parents):  # any group above limits it too
            files: list[Path] = []
            if not controllers:
                files = [CGROUPS / folder / name]
            elif controller in controllers.split(","):
                files = [CGROUPS / controller / folder / old for old in old_names]
            if files and all(file.is_file() for file in files):
                yield " ".join(file.read_text().strip() for file in files)
