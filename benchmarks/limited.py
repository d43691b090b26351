"""A cache larger than memory: shuffled in blocks against shuffled globally, under a memory limit (A B A B).

    sudo python -m benchmarks.limited                 # writes 3 GiB to the temporary folder; creates a cgroup

Each epoch runs in its own process, limited to 1 GiB including Python, torch and the page cache.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import processor
from src.config import Augment
from src.core import cli
from src.core.errors import InputError
from src.core.machine import CGROUPS, memory_limit
from src.data.loader import Loader
from src.data.pixels import Pixels, hash_blocks

SIZE = (64, 128)


@dataclass(frozen=True, kw_only=True)
class LimitedConfig:
    """How much to read, with how much memory."""

    gib: float = 3.0
    limit_mib: int = 1024
    rounds: int = 2
    seconds: float = 120.0
    """Stop an epoch after this time."""
    serve: Path | None = None
    """Internal: serve one epoch of this cache."""
    in_blocks: bool = False


def make_group(limit: int) -> tuple[Path, str]:
    """Create a cgroup limited to `limit` bytes of memory; return it and the name of the file with its peak."""
    v1 = (CGROUPS / "memory").is_dir()
    group = (CGROUPS / "memory" if v1 else CGROUPS) / f"podium{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
    except OSError as error:
        raise InputError(f"{group}: cannot be created ({error.strerror}); run as root") from error
    return group, "memory.max_usage_in_bytes" if v1 else "memory.peak"


def make_cache(path: Path, count: int) -> None:
    """Write `count` random images as a .npy file."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *SIZE, 3))
    rng = np.random.default_rng(0)
    for start in range(0, count, 4096):
        images[start : start + 4096] = rng.integers(0, 256, images[start : start + 4096].shape, dtype=np.uint8)
    images.flush()


def forget(path: Path) -> None:
    """Drop a file's pages from the page cache."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _serve(config: LimitedConfig) -> None:
    assert config.serve
    images: np.ndarray | Pixels = np.load(config.serve, mmap_mode="r")
    if config.in_blocks:  # as train reads it: through a plain map, the system would read megabytes around each row
        hashes = config.serve.with_suffix(".txt").read_text().split()
        images = Pixels(config.serve, images.shape, hashes, "")  # type: ignore[arg-type]
    rows = np.arange(len(images))
    loader = Loader(
        images=images,
        rows=rows,
        targets=rows[:, None],
        image_size=SIZE,
        batch_size=64,
        policy=Augment(hflip=0.0, concat=0.0),
        in_blocks=config.in_blocks,
    )
    started, before = time.perf_counter(), _bytes_read()
    count = 0
    for batch in loader.epoch(0):
        count += len(batch["index"])
        if time.perf_counter() - started > config.seconds:
            break
    seconds, read = time.perf_counter() - started, _bytes_read() - before
    print(f"{count / seconds:.0f} images/s over {count:,} images, {read / count / images[0].nbytes:.2f} bytes read "
          f"from disk per byte served, limit {memory_limit() / 2**20:.0f} MiB")  # fmt: skip


def main(config: LimitedConfig) -> None:
    """Print one line per epoch."""
    if config.serve:
        _serve(config)
        return
    count = int(config.gib * 2**30 / (SIZE[0] * SIZE[1] * 3))
    print(f"{processor()}; {count:,} images, {config.gib} GiB, under {config.limit_mib} MiB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.npy")
        make_cache(path, count)
        path.with_suffix(".txt").write_text("\n".join(hash_blocks(np.load(path, mmap_mode="r"))))
        for _ in range(config.rounds):
            for name, flag in (("in blocks", "--in-blocks"), ("globally", "--no-in-blocks")):
                forget(path)
                group, peak = make_group(config.limit_mib * 2**20)
                enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
                command = ["sh", "-c", enter, "sh", sys.executable, "-m", "benchmarks.limited", "--serve", str(path)]
                try:
                    finished = subprocess.run([*command, flag], capture_output=True, text=True, check=False)
                    used = int((group / peak).read_text()) / 2**20 if (group / peak).exists() else float("nan")
                finally:
                    group.rmdir()
                last = finished.stdout.strip()
                if finished.returncode:
                    last = f"failed ({finished.returncode}) {finished.stderr[-300:]}"
                print(f"{name:9} {last}, peak including the page cache {used:.0f} MiB", flush=True)


if __name__ == "__main__":
    cli.run(main, LimitedConfig, __doc__)
