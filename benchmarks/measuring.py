"""What several benchmarks measure with: the processor's name, its seconds, memory, and a median with its range."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def processor() -> str:
    """Return the number of cores and the processor's name, from /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} x {names[0] if names else platform.processor()}"


def cpu_seconds() -> float:
    """Return the seconds that this process and its children that have ended have spent on processors."""
    return sum(os.times()[:4])


def anonymous_bytes(pid: int | str = "self") -> int:
    """Return a process's memory without mapped files, which the system can drop. Raises OSError if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def with_range(values: Sequence[float], form: str) -> str:
    """Return the median of values and their range, as "1.20 (1.10–1.30)"; `form` formats a number, as ".2f"."""
    return f"{np.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"
