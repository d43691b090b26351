"""The model of benchmarks.plan against this machine: two ranks on two cores, a cache larger than memory, a bucket.

    python -m benchmarks.plan --check                 # as root; writes benchmarks/results/plan.md

Each prediction is made of figures that were measured apart: one rank's images/s and the seconds of an all-reduce; the
loader's images/s from memory, the disk's bytes/s and the bytes read per image.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.limited import SIZE, forget, make_cache
from benchmarks.measuring import processor, with_range
from benchmarks.plan_model import training_rate
from src.core import cli
from src.core.world import join_world

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "benchmarks" / "results" / "plan.md"
BATCH = 64
NETWORKS = {"string_cnn": (32, 48), "tf_efficientnet_lite0": (64, 128)}  # height and width
IMAGES = 640
GIB = 2**30
REPEATS = 20


@dataclass(frozen=True, kw_only=True)
class RanksConfig:
    """Internal: time the sum of gradients; started by torchrun."""

    parameters: int = 1_000_000


class Row(NamedTuple):
    """A prediction and what was measured, in images/s, a value per round."""

    name: str
    predicted: list[float]
    measured: list[float]

    def line(self) -> str:
        """Return a row of the page."""
        error = median(self.predicted) / median(self.measured) - 1
        cells = [with_range(v, ",.0f") for v in (self.predicted, self.measured)]
        return f"| {self.name} | {cells[0]} | {cells[1]} | {error:+.0%} |"


def _run(*command: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-2000:]}")
    return ended.stdout


def _train(folder: Path, backbone: str, ranks: int) -> float:
    """Return images/s of the second epoch."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    height, width = NETWORKS[backbone]
    flags = f"--competition demo --fold 0 --backbone {backbone} --no-pretrained --epochs 2 --batch-size {BATCH}"
    size = f"--image-size {height} {width} --restart --run-name {backbone}"
    _run(*launch, "-m", "src.train", *flags.split(), *size.split(), cwd=folder)
    log = pd.read_csv(folder / "runs" / "demo" / backbone / "fold0" / "log.csv")
    return float(log["images_per_second"].iloc[1])


def _sync(parameters: int) -> float:
    """Return the seconds in which two ranks sum their gradients."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return float(_run(*launch, "-m", "benchmarks.plan_check", "--parameters", str(parameters)).split()[-1])


def _parameters(backbone: str) -> int:
    text = _run("-m", "src.summary", "--competition", "demo", "--backbone", backbone)
    found = re.search(r"^parameters ([\d,]+)", text, flags=re.MULTILINE)
    assert found, text
    return int(found[1].replace(",", ""))


def ranks_rows(rounds: int) -> list[Row]:
    """Train with one rank and with two in turn: A B A B."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = ("--num-train", str(2 * IMAGES - 64), "--num-val", "64", "--num-test", "8")
        _run("-m", "src.make_demo", *counts, cwd=folder)
        _run("-m", "src.prepare", "--competition", "demo", "--num-folds", "2", "--image-size", "64", "128", cwd=folder)
        for backbone in NETWORKS:
            parameters = _parameters(backbone)
            predicted, measured = [], []
            for _ in range(rounds):
                alone, sync = _train(folder, backbone, 1), _sync(parameters)
                measured.append(_train(folder, backbone, 2))
                predicted.append(training_rate(2, BATCH / 2, alone, sync))
                print(f"{backbone}: 1 rank {alone:.0f} images/s, sum of gradients {1000 * sync:.1f} ms, "
                      f"2 ranks {measured[-1]:.0f} images/s, predicted {predicted[-1]:.0f}", flush=True)  # fmt: skip
            rows.append(Row(f"two ranks, {backbone}, {parameters:,} parameters", predicted, measured))
    return rows


def _disk(path: Path) -> float:
    """Return bytes/s of reading a file from the disk in order."""
    forget(path)
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as stream:
        while stream.read(8 << 20):
            pass
    return path.stat().st_size / (time.perf_counter() - started)


def blocks_rows(rounds: int, remote: tuple[float, float] | None) -> list[Row]:
    """Read 3 GiB with 1 GiB of memory, in blocks and over the whole file (benchmarks.limited).

    remote: Mbyte/s of a bucket's server, and images/s that were trained from it.
    """
    image = SIZE[0] * SIZE[1] * 3
    from_memory, disk = [], []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "train.npy")
        make_cache(path, GIB // image)
        for _ in range(rounds):
            disk.append(_disk(path))
            served = _run("-m", "benchmarks.limited", "--serve", str(path))
            from_memory.append(float(served.split()[0]))
    print(f"disk {median(disk) / GIB:.2f} GiB/s, loader from memory {median(from_memory):,.0f} images/s", flush=True)
    lines = _run("-m", "benchmarks.limited", "--rounds", str(rounds), "--seconds", "30")
    rows = []
    for kind, label in (("in blocks", "shuffled in blocks"), ("globally ", "shuffled over the whole file")):
        found = re.findall(rf"^{kind} (\d+) images/s over .*?, ([\d.]+) bytes read", lines, flags=re.MULTILINE)
        read = [float(amount) for _, amount in found]
        limits = [bandwidth / (image * amount) for bandwidth, amount in zip(disk, read, strict=True)]
        predicted = [min(loader, limit) for loader, limit in zip(from_memory, limits, strict=True)]
        name = f"{label}, {median(read):.0f} bytes read per byte"
        rows.append(Row(name, predicted, [float(rate) for rate, _ in found]))
    if remote:
        limit = remote[0] * 1e6 / image
        rows.append(Row("blocks of a bucket, cold", [min(loader, limit) for loader in from_memory], [remote[1]]))
    return rows


def check(rounds: int, remote: tuple[float, float] | None) -> None:
    """Print predicted against measured, and write both into benchmarks/results/plan.md."""
    rows = [*ranks_rows(rounds), *blocks_rows(rounds, remote)]
    table = [
        "| images/s | predicted | measured | error |",
        "|---|---|---|---|",
        *(row.line() for row in rows),
    ]
    print("\n".join(table))
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.split("<!-- check -->\n")[0], text.split("<!-- end -->\n")[1]
    said = (
        f"{processor()}, 2 cores shared with other work, torch {torch.__version__.split('+')[0]}, gloo, one thread a "
        f"rank. Median (min–max) of {rounds} rounds."
    )
    PAGE.write_text("\n".join([head + "<!-- check -->", said, "", *table, "<!-- end -->\n"]) + tail, encoding="utf-8")


def main(config: RanksConfig) -> None:
    """Print the median seconds of a sum of gradients."""
    world = join_world(timedelta(minutes=1))
    weights = [torch.nn.Parameter(torch.zeros(part)) for part in np.full(50, config.parameters // 50)]
    seconds = []
    for _ in range(REPEATS):
        for each in weights:
            each.grad = torch.ones_like(each)
        world.all(None)
        started = time.perf_counter()
        world.sum_gradients(weights)
        seconds.append(time.perf_counter() - started)
    if world.is_main:
        print(median(seconds))


if __name__ == "__main__":
    cli.run(main, RanksConfig, __doc__)
