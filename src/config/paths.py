"""Flags that all commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Which competition, and where its files are read and written."""

    competition: str = "svhn"
    """A name under src/competitions/, or the path of a .py file of your own."""
    input_dir: Path = Path("input")
    """Holds one folder per competition with the organiser's files; only download writes there."""
    runs_dir: Path = Path("runs")
    """Holds <competition>/prepared/ and one folder per run."""
    submissions_dir: Path = Path("submissions")
    """Holds <competition>/<run>.csv."""


@dataclass(frozen=True, kw_only=True)
class PixelPaths(Paths):
    """Where a command that looks at images reads their pixels."""

    cache_url: str | None = None
    """Folder that holds copies of the image caches (.npy), such as s3://bucket/svhn or https://host/svhn; default: they
    are in runs/<competition>/cache/. S3 and HTTP need requirements-remote.txt."""
    cache_local_gb: float = 20.0
    """With --cache-url: GB of blocks kept on this machine; those used longest ago are deleted."""
    cache_local_dir: Path | None = None
    """With --cache-url: where they are kept; default: runs/<competition>/cache/blocks/."""
