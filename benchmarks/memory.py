"""Time a CPU training step with and without `keep_freed_memory`, alternating in fresh processes (A B A B).

python -m benchmarks.memory
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

import timm
import torch

from src.core import cli
from src.core.malloc import keep_freed_memory

ROUNDS, STEPS, BATCH = 4, 12, 64


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What to measure."""

    way: Literal["", "plain", "kept"] = ""
    """Internal: measure this way once."""


def measure(keep: bool) -> None:
    """Print images/s and the share of system time in CPU time, for this process."""
    if keep:
        keep_freed_memory()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=66).to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 64, 128).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def step() -> None:
        network(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    started, before = time.perf_counter(), os.times()
    for _ in range(STEPS):
        step()
    after, seconds = os.times(), time.perf_counter() - started
    system, user = after.system - before.system, after.user - before.user
    print(f"{STEPS * BATCH / seconds:.1f} {system / (system + user):.4f}")


def main(config: MemoryConfig) -> None:
    """Alternate both ways; print the sorted rates, the shares of system time, and the ratio of each round."""
    if config.way:
        measure(config.way == "kept")
        return
    results: dict[str, list[tuple[float, float]]] = {"plain": [], "kept": []}
    for _ in range(ROUNDS):
        for name, rows in results.items():
            command = [sys.executable, "-m", "benchmarks.memory", "--way", name]
            rate, share = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            rows.append((float(rate), float(share)))
    for name, rows in results.items():
        rates = sorted(rate for rate, _ in rows)
        print(f"{name}: images/s {rates}, share of system time in CPU time {[share for _, share in rows]}")
    ratios = sorted(kept[0] / plain[0] for plain, kept in zip(results["plain"], results["kept"], strict=True))
    print(f"kept / plain, by round: {[round(ratio, 3) for ratio in ratios]}; torch {torch.__version__}")


if __name__ == "__main__":
    cli.run(main, MemoryConfig, __doc__)
