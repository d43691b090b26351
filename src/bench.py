"""Measure what a training would cost: loader alone, step alone, both together, and how far each is from its limit.

    python -m src.bench --backbone resnet18 --image-size 64 128
    python -m src.bench --competition cifar10 --backbone resnet_cifar --batch-size 128 --steps 10

Takes the flags of src.train that change a step's cost. Needs no data and no weights (images are made up), and writes
nothing.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch

from src.competitions.spec import Competition, load_competition
from src.config import BenchConfig, check_range
from src.core import cli
from src.core.errors import InputError
from src.core.runtime import Compute, choose_compute, keep_freed_memory, to_device
from src.data.loader import Batch, Batches, Loader
from src.inference.predictor import predict_probabilities
from src.models.heads import num_classes_per_head
from src.models.summary import summarise
from src.training.resources import ResourceMonitor
from src.training.setup import check_flags, make_loader, make_network, make_state, place, step_options
from src.training.step import TrainState, train_step

NUM_IMAGES = 512  # made-up images, or four batches of them; served again and again


def _seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the seconds of one call, the median of `repeats`, after two that warm up."""
    spent = []
    for number in range(repeats + 2):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def bandwidth(device: torch.device) -> float:
    """Return bytes a second of copying memory, reads and writes counted, as measured here."""
    source = torch.ones(1 << 26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _seconds(lambda: target.copy_(source), device, 10)


def matrix_rate(compute: Compute) -> float:
    """Return multiply-adds a second of a large matrix product in the training's precision, as measured here."""
    side = 8192 if compute.device.type == "cuda" else 1536
    one = torch.randn(side, side, device=compute.device, dtype=compute.dtype)
    return side**3 / _seconds(lambda: one @ one, compute.device, 5)


def made_up(competition: Competition, size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth random images (N, H, W, 3) uint8 and random targets (N, num_heads)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    images = np.stack([cv2.resize(picture, (size[1], size[0])) for picture in coarse])
    columns = [rng.integers(0, width, count) for width in num_classes_per_head(competition.heads)]
    return images, np.stack(columns, axis=1)


def _endless(loader: Batches) -> Callable[[], Batch]:
    batches = (batch for epoch in range(10**9) for batch in loader.epoch(epoch))
    return lambda: next(batches)


def main(config: BenchConfig) -> dict[str, float]:
    """Print a table and return its figures. Raises InputError for flags that src.train would refuse."""
    keep_freed_memory()
    cv2.setNumThreads(0)
    competition = load_competition(config.competition)
    if not competition.heads:
        raise InputError(f"{config.competition}: its classes are known from its data only; use another --competition")
    check_flags(config, competition)
    check_range("steps", config.steps, 3)
    if config.freeze_backbone or config.progressive_resize < 1:
        raise InputError(
            "--freeze-backbone, --progressive-resize: only whole steps at one size are measured; leave them out"
        )
    compute = choose_compute(config.device, config.precision)
    size = config.image_size or competition.image_size
    images, targets = made_up(competition, size, max(NUM_IMAGES, 4 * config.batch_size))
    loader = make_loader(config, competition, images, np.arange(len(images)), targets, size, train=True)
    network = make_network(replace(config, pretrained=False, weights=None), competition, size, saved=False)
    costs = summarise(network.backbone, size, competition.channels)
    to_device(network, compute)
    state, served = make_state(config, network, compute), place(config, loader, compute)
    figures = _measure(config, competition, compute, served, loader, state)
    limits = {
        # Each image is read and written once by the gather, and once more by the warp.
        "loader": bandwidth(torch.device("cpu") if served is loader else compute.device) / (4 * size[0] * size[1] * 3),
        # Backward costs twice what forward does.
        "step": matrix_rate(compute) / (3 * costs.multiply_adds),
        "inference": matrix_rate(compute) / costs.multiply_adds,
    }
    name = torch.cuda.get_device_name() if compute.device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{config.backbone}, {size[0]}x{size[1]}, batch {config.batch_size}, {name}, {compute.dtype}")
    for kind in ("loader", "step", "both", "inference"):
        limit = f"{figures[kind] / limits[kind]:.1%} of its limit" if kind in limits else ""
        print(f"{kind:10} {figures[kind]:12,.0f} images/s  {limit}".rstrip())
    print(f"waiting for data {figures['waiting']:.1%} of the time; peak memory {figures['memory_mib']:,.0f} MiB")
    print("limits: the loader's is copying memory, the others' a large matrix product, both as measured here")
    return figures


def _measure(
    config: BenchConfig,
    competition: Competition,
    compute: Compute,
    served: Batches,
    loader: Loader,
    state: TrainState,
) -> dict[str, float]:
    device, size, options = compute.device, config.batch_size, step_options(config)
    monitor = ResourceMonitor(device)
    get = _endless(served)
    batch = get()
    waited: list[float] = []

    def step(given: Batch) -> None:
        train_step(state, given, competition.heads, config.lr, compute, options)

    def both() -> None:
        started = time.perf_counter()
        given = get()
        waited.append(time.perf_counter() - started)
        step(given)

    state.network.train()
    figures = {
        "loader": size / _seconds(get, device, config.steps),
        "step": size / _seconds(lambda: step(batch), device, config.steps),
    }
    seconds = _seconds(both, device, config.steps)
    plain = replace(loader, policy=None, batch_size=256, progressive_resize=1.0)
    spent = _seconds(lambda: predict_probabilities(state.scored, plain, competition.heads, compute), device, 1)
    return {
        **figures,
        "both": size / seconds,
        "waiting": float(np.median(waited[2:])) / seconds,
        "inference": len(loader.rows) / spent,
        **monitor.row(),
    }


if __name__ == "__main__":
    cli.run(main, BenchConfig, __doc__)
