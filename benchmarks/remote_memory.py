"""Training on a remote cache four times as large as the memory: src.train in a cgroup, its pixels on a server.

    sudo python -m benchmarks.remote_memory            # 4 GiB in 1 GiB, two epochs; needs 15 GB of disk

The server is outside the cgroup. Prints each epoch's line of log.csv (its memory is the process's peak so far) and the
cgroup's peak, page cache included. The local blocks may take 1 GB, so most are fetched again in the second epoch.
"""

import csv
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.growth import make
from benchmarks.limited import SIZE, make_group
from benchmarks.measuring import processor
from benchmarks.servers import serving
from src.core import cli
from src.core.errors import InputError

NUM_TEST = 100


@dataclass(frozen=True, kw_only=True)
class RemoteMemoryConfig:
    """How much to train on, with how much memory."""

    server: Literal["nginx", "s3rver"] = "nginx"
    gib: float = 4.0
    limit_mib: int = 1024
    epochs: int = 2
    folder: Path | None = None
    """Where the data are written; default: the system's temporary folder."""


def _prepare(folder: Path, count: int) -> Path:
    """Prepare `count` images of 24x24, enlarged to 64x128; return the folder of their cache."""
    make(folder, count)
    sample = folder / "input" / "growth" / "sample_submission.csv"
    sample.write_text("".join(sample.read_text().splitlines(keepends=True)[: NUM_TEST + 1]))
    command = [sys.executable, "-m", "src.prepare", *_common(folder), "--no-duplicates", "--image-size"]
    subprocess.run([*command, *map(str, SIZE)], check=True, stdout=subprocess.DEVNULL)
    return folder / "runs" / "growth" / "cache"


def _common(folder: Path) -> list[str]:
    folders = ["--input-dir", str(folder / "input"), "--runs-dir", str(folder / "runs")]
    return ["--competition", str(folder / "growth.py"), *folders]


def main(config: RemoteMemoryConfig) -> None:
    """Print the memory of each epoch."""
    count = int(config.gib * 2**30 / (SIZE[0] * SIZE[1] * 3))
    print(
        f"{processor()}; {config.server}; {count:,} images, {config.gib} GiB, under {config.limit_mib} MiB", flush=True
    )
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        folder = Path(name)
        cache = _prepare(folder, count)
        (file,) = cache.glob("train_*.npy")
        group, peak = make_group(config.limit_mib * 2**20)
        try:
            with serving(config.server, file) as server:
                file.unlink()
                net = ["--backbone", "svhn_cnn", "--no-pretrained", "--batch-size", "500", "--image-size", "24", "24"]
                train = ["-m", "src.train", *_common(folder), "--fold", "0", "--epochs", str(config.epochs), *net,
                         "--cache-url", server.url, "--cache-local-gb", "1"]  # fmt: skip
                enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
                command = ["sh", "-c", enter, "sh", sys.executable, *train]
                ended = subprocess.run(command, env={**os.environ, **server.environment}, check=False)
            used = int((group / peak).read_text()) / 2**20 if (group / peak).exists() else float("nan")
        finally:
            group.rmdir()
        if ended.returncode:
            raise InputError(f"the training ended with exit code {ended.returncode}")
        log = folder / "runs" / "growth" / "baseline" / "fold0" / "log.csv"
        for row in csv.DictReader(log.read_text().splitlines()):
            print(", ".join(f"{name} {value}" for name, value in row.items() if name != "lr"))
        kept = sum(path.stat().st_size for path in (cache / "blocks").rglob("*") if path.is_file())
    print(f"peak including the page cache {used:.0f} MiB; blocks on this machine {kept / 1e9:.2f} GB")


if __name__ == "__main__":
    cli.run(main, RemoteMemoryConfig, __doc__)
