"""Flags of watch and compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from src.config.paths import Paths, PixelPaths


@dataclass(frozen=True, kw_only=True)
class WatchConfig(Paths):
    """A page that follows a training."""

    FIRST: ClassVar[str] = "run_name"

    run_name: str = "baseline"
    """Name of the run; may come first, without the flag."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines look too. Whoever reaches it sees the page."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    once: Path | None = None
    """Write the page as it is now to this file, and serve nothing."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(PixelPaths):
    """Runs of a competition side by side."""

    FIRST: ClassVar[str] = "run_name"

    run_name: tuple[str, ...] = ()
    """The runs, which may come first, without the flag; the others are compared with the first. Default: all, with the
    best."""
    tta: bool = True
    """Compare the means over test-time views, or the plain images."""
    num_images: int = 24
    """Images shown that only one of two runs has right, for each of the two."""
