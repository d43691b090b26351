"""Time and memory against the number of images: prepare, load, train, predict at 1k, 10k, 100k and 1M.

    python -m benchmarks.growth                                 # 1M: about half an hour and 12 GB of disk on 2 cores
    python -m benchmarks.growth --sizes 1000 10000

Each size is a separate competition in a temporary folder: N labelled and N test images of 24x24 pixels, as PNGs in two
zips, with one image in a hundred a duplicate. Each command runs in its own process. The table gives totals and the cost
per additional image (one labelled and one test image) relative to the previous size (for the first: 200 images). Memory
is the sampled peak of anonymous memory (RssAnon) of the process and its children, without the mapped cache, which the
system can drop.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import anonymous_bytes, processor
from src.config import Augment, Paths
from src.core import cli
from src.data.loader import Loader
from src.data.prepared import open_prepared

SIDE, CLASSES, COPIES = 24, 10, 0.01
SPEC = """from src.competitions.tables import csv_competition
COMPETITION = csv_competition(name="growth", id_column="id", label_column="label", image_size=(24, 24))
"""
FORKED = 0x40  # PF_FORKNOEXEC of Linux's sched.h
STAGES = ("prepare", "load", "train", "predict")


@dataclass(frozen=True, kw_only=True)
class GrowthConfig:
    """Which sizes to measure."""

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    stages: tuple[str, ...] = STAGES
    """Which commands to measure: prepare first; predict needs train."""
    folder: Path | None = None
    """Folder for the competitions; default: the system's temporary folder."""
    out: Path = Path("benchmarks/growth.json")
    load: Path | None = None
    """Internal: serve one augmented epoch of this prepared folder."""


def _write_zip(path: Path, count: int, rng: np.random.Generator) -> None:
    """Write `count` smooth images, one in a hundred a duplicate of the one before."""
    with zipfile.ZipFile(path, "w") as archive:
        data = b""
        for row in range(count):
            if row % round(1 / COPIES) != 1:
                small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                data = cv2.imencode(".png", cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))[1].tobytes()
            archive.writestr(f"{row:07d}.png", data)


def make(folder: Path, count: int) -> None:
    """Write a competition of `count` labelled and `count` test images into input/growth/."""
    root, rng = folder / "input" / "growth", np.random.default_rng(count)
    root.mkdir(parents=True)
    (folder / "growth.py").write_text(SPEC)
    for name in ("train", "test"):
        _write_zip(root / f"{name}.zip", count, rng)
    labels = rng.integers(0, CLASSES, count)
    labels[1 :: round(1 / COPIES)] = labels[0 :: round(1 / COPIES)][: len(labels[1 :: round(1 / COPIES)])]
    rows = "".join(f"{row:07d}.png,{label}\n" for row, label in enumerate(labels))
    (root / "train.csv").write_text("id,label\n" + rows)
    (root / "sample_submission.csv").write_text("id,label\n" + "".join(f"{row:07d}.png,0\n" for row in range(count)))


def _anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory in bytes of a process and its children.

    Not of one that was forked and has not begun its own program yet: its pages are its parent's.
    """
    try:
        if int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[6]) & FORKED:
            return 0
        own = anonymous_bytes(pid)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # the process has ended
        return 0
    return own + sum(_anonymous_bytes(int(child)) for child in children)


def _children_seconds() -> float:
    """Return the processor time of all commands that have ended, with their own processes."""
    return sum(os.times()[2:4])


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, its peak memory in MiB, and its processor time in seconds.

    Raises CalledProcessError if it fails.
    """
    started, before, peak = time.perf_counter(), _children_seconds(), 0
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous_bytes(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - started, peak / 2**20, _children_seconds() - before


def commands(folder: Path) -> dict[str, list[str]]:
    """Return each stage's command."""
    common = ["--competition", str(folder / "growth.py")]
    for name in ("input", "runs"):
        common += [f"--{name}-dir", str(folder / name)]
    net = ["--backbone", "svhn_cnn", "--no-pretrained", "--epochs", "1", "--batch-size", "500", "--fold", "0"]
    return {
        "prepare": ["src.prepare", *common],
        "load": ["benchmarks.growth", "--load", str(folder)],
        "train": ["src.train", *common, *net],
        "predict": ["src.predict", *common, "--submissions-dir", str(folder / "submissions")],
    }


def _serve(folder: Path) -> None:
    cache = open_prepared(Paths(competition=str(folder / "growth.py"), runs_dir=folder / "runs")).cache("train")
    rows = np.arange(len(cache.images))
    loader = Loader(
        images=cache.images,
        rows=rows,
        targets=np.zeros((len(rows), 1), dtype=np.int64),
        image_size=cache.image_size,
        batch_size=500,
        policy=Augment(hflip=0.5, concat=0.0),
        hflip_ok=True,
    )
    for _ in loader.epoch(0):
        pass


def _measure_size(count: int, config: GrowthConfig) -> dict[str, tuple[float, float, float]]:
    folder = Path(tempfile.mkdtemp(dir=config.folder))
    try:
        make(folder, count)
        return {stage: measure(command) for stage, command in commands(folder).items() if stage in config.stages}
    finally:
        shutil.rmtree(folder)


def main(config: GrowthConfig) -> None:
    """Print a table and write the figures as JSON."""
    if config.load:
        _serve(config.load)
        return
    print(
        f"{processor()}; seconds (of processor time) and peak MiB; then µs of processor time and KiB per additional "
        "image relative to the row above"
    )
    print("| images | " + " | ".join(config.stages) + " |\n|" + "---|" * (len(config.stages) + 1))
    results: dict[int, dict[str, tuple[float, float, float]]] = {}
    before = 200
    previous = _measure_size(before, config)
    for count in config.sizes:
        results[count] = _measure_size(count, config)
        cells = []
        for name in config.stages:
            (seconds, mib, used), (_, old_mib, old_used) = results[count][name], previous[name]
            time_each = 1e6 * (used - old_used) / (count - before)
            memory_each = 1024 * (mib - old_mib) / (count - before)
            cells.append(f"{seconds:,.1f} s ({used:,.1f}), {mib:,.0f} MiB; {time_each:,.0f} µs, {memory_each:.2f} KiB")
        print(f"| {count:,} | " + " | ".join(cells) + " |", flush=True)
        before, previous = count, results[count]
        config.out.write_text(json.dumps({"processor": processor(), "sizes": results}))


if __name__ == "__main__":
    cli.run(main, GrowthConfig, __doc__)
