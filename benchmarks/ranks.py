"""What torchrun costs: one process, torchrun with one rank, and with several, side by side: A B C A B C.

    python -m benchmarks.ranks                            # about 10 minutes on an idle machine with 2 cores
    python -m benchmarks.ranks --ranks 8 --steps 50 --backbone resnet50      # on a machine with 8 GPUs

Each round runs `src.bench` in each way, on the same cores: one process of `--ranks` threads, torchrun with one rank of
as many threads, torchrun with `--ranks` ranks of one thread each. Prints images/s by round, the ratio to one process,
and what summing the gradients takes in `--ranks` ranks, ours (buckets after the last micro-batch) beside
DistributedDataParallel's (overlapped with backward). On GPUs the one process uses one GPU.
"""

import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measuring import processor, with_range
from src.core import cli
from src.core.runtime import choose_compute, in_world, to_device, wait_for
from src.core.world import join_world

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class RanksConfig:
    """What to run, and how often."""

    ranks: int = 2
    rounds: int = 4
    backbone: str = "resnet18"
    batch_size: int = 64
    steps: int = 10
    sums_only: bool = False
    """Compare the ways to sum gradients, as one of the ranks (started by this script)."""


def _run(command: list[str], threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def _torchrun(ranks: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]


def rates(config: RanksConfig) -> dict[str, float]:
    """Return images/s of whole steps, loader and all, in each way."""
    flags = ("--no-pretrained", "--backbone", config.backbone, "--batch-size", str(config.batch_size))
    bench = ["-m", "src.bench", *flags, "--image-size", "64", "128", "--steps", str(config.steps)]
    ways = {
        "one process": ([sys.executable], config.ranks),
        "torchrun, 1 rank": (_torchrun(1), config.ranks),
        f"torchrun, {config.ranks} ranks": (_torchrun(config.ranks), 1),
    }
    found = {}
    for name, (launch, threads) in ways.items():
        line = re.search(r"^both +([\d,]+)", _run([*launch, *bench], threads), re.M)
        assert line
        found[name] = float(line[1].replace(",", ""))
    return found


def compare_sums(config: RanksConfig) -> None:
    """Print, on rank 0, milliseconds of forward and backward without a sum, with ours and with DDP's, A B C A B C."""
    world = join_world(timedelta(minutes=10))
    compute = in_world(choose_compute("auto", "fp32"), world)
    torch.manual_seed(0)
    plain = to_device(timm.create_model(config.backbone, num_classes=66), compute).train()
    wrapped = DistributedDataParallel(plain, broadcast_buffers=False)
    images = torch.randn(config.batch_size // world.size, 3, 64, 128, device=compute.device)
    images = images.contiguous(memory_format=torch.channels_last)

    def once(network: nn.Module, ours: bool) -> float:
        world.most(0)
        started = time.perf_counter()
        network(images).sum().backward()
        if ours:
            world.sum_gradients(list(plain.parameters()))
        wait_for(compute.device)
        spent = time.perf_counter() - started
        plain.zero_grad(set_to_none=True)
        return spent

    spent: dict[str, list[float]] = defaultdict(list)
    for number in range(config.rounds * config.steps + 2):
        for name, network, ours in (("no sum", plain, False), ("ours", plain, True), ("DDP", wrapped, False)):
            seconds = once(network, ours)
            if number >= 2:
                spent[name].append(seconds)
    if world.is_main:
        for name, values in spent.items():
            low, middle, high = 1000 * np.quantile(values, [0.25, 0.5, 0.75])
            print(f"| {name} | {middle:.1f} ({low:.1f}–{high:.1f}) | {len(values)} |")


def main(config: RanksConfig) -> None:
    """Print Markdown tables."""
    if config.sums_only:
        compare_sums(config)
        return
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(config.rounds):
        for name, rate in rates(config).items():
            found[name].append(rate)
    print(f"{config.backbone}, 64x128, batch {config.batch_size}; {processor()}; torch {torch.__version__}")
    print(f"| {config.rounds} rounds | images/s, median (min–max) | ratio to one process |\n|---|---|---|")
    for name, values in found.items():
        ratio = np.array(values) / np.array(found["one process"])
        print(f"| {name} | {with_range(values, ',.0f')} | {with_range(ratio, '.3f')} |")
    print("\n| forward and backward | ms, median (quartiles) | n |\n|---|---|---|")
    own = ["-m", "benchmarks.ranks", "--sums-only", "--backbone", config.backbone, "--batch-size"]
    more = [str(config.batch_size), "--rounds", str(config.rounds), "--steps", str(config.steps)]
    print(_run([*_torchrun(config.ranks), *own, *more], 1), end="")


if __name__ == "__main__":
    cli.run(main, RanksConfig, __doc__)
