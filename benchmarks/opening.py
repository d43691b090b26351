"""What it costs to check an image cache: all of it before the first step, or each block when it is first read.

    python -m benchmarks.opening --gib 2                       # about a minute; needs that much disk

Alternates both ways, A B A B, in fresh processes with a warm page cache: seconds until the first batch of 64 random
images, and for a whole epoch of them; and an epoch once every block is checked.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import processor, with_range
from src.core import cli
from src.data.pixels import Pixels, hash_blocks

BATCH = 64
WAYS = ("at once", "in blocks")


@dataclass(frozen=True, kw_only=True)
class OpeningConfig:
    """Size and repetitions."""

    gib: float = 2.0
    """Of the cache."""
    image_size: tuple[int, int] = (64, 128)
    rounds: int = 4
    folder: Path | None = None
    """Where the cache is written; default: a temporary folder."""
    way: str = ""
    """Used by the script itself."""


def _epoch(images: Pixels | np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the seconds of the first batch and of all batches."""
    order, started, first = rng.permutation(len(images)), time.perf_counter(), 0.0
    for start in range(0, len(images), BATCH):
        images[order[start : start + BATCH]]
        first = first or time.perf_counter() - started
    return first, time.perf_counter() - started


def _measure(config: OpeningConfig, file: Path) -> None:
    blocks = file.with_suffix(".txt").read_text().split()
    images = np.load(file, mmap_mode="r")
    started = time.perf_counter()
    if config.way == "at once":
        with open(file, "rb") as stream:
            hashlib.file_digest(stream, "sha256")
        served: Pixels | np.ndarray = images
    else:
        served = Pixels(file, images.shape, blocks, "")
    opened, rng = time.perf_counter() - started, np.random.default_rng(0)
    first, epoch = _epoch(served, rng)
    print(opened + first, opened + epoch, _epoch(served, rng)[1])


def main(config: OpeningConfig) -> None:
    """Print a Markdown table of medians and ranges."""
    if config.way:
        assert config.folder
        _measure(config, config.folder / "cache.npy")
        return
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        folder = Path(name)
        height, width = config.image_size
        shape = (int(config.gib * 2**30 / (height * width * 3)), height, width, 3)
        images = np.lib.format.open_memmap(folder / "cache.npy", mode="w+", dtype=np.uint8, shape=shape)
        rng = np.random.default_rng(0)
        for start in range(0, len(images), 4096):
            images[start : start + 4096] = rng.integers(0, 256, images[start : start + 4096].shape, dtype=np.uint8)
        images.flush()
        (folder / "cache.txt").write_text("\n".join(hash_blocks(images)))
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(config.rounds):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.opening", "--way", way, "--folder", name]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[way].append([float(word) for word in out.split()])
        print(
            f"{len(images):,} images, {config.gib:g} GiB, {config.rounds} rounds, {processor()}, numpy {np.__version__}"
        )
        print("| checked | seconds to the first batch | of the first epoch | of a later epoch |\n|---|---|---|---|")
        for way, rows in found.items():
            cells = [with_range(column, ".2f") for column in zip(*rows, strict=True)]
            print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    cli.run(main, OpeningConfig, __doc__)
