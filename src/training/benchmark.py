"""What src.bench times: a training's loader, step and inference on synthetic images, and what bounds them here."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from src.competitions.spec import Competition
from src.config import BenchConfig
from src.core.flags import check_image_size
from src.core.runtime import Compute, to_device, wait_for
from src.data.images import Decoding, by_fours
from src.data.loader import Batch, Batches, Loader
from src.inference.predictor import Predictor
from src.models.contract import find_backbone
from src.models.summary import summarise
from src.training.loading import choose_device_cache, make_loader
from src.training.resources import ResourceMonitor
from src.training.served import Served, needs_boxes
from src.training.setup import make_network, make_state
from src.training.step import TrainState, train_step
from src.training.wrapping import wrap

NUM_IMAGES = 512  # synthetic images, or four batches of them; served again and again
PASSES = 8  # over them in an epoch


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A training on synthetic images."""

    competition: Competition
    compute: Compute
    loader: Loader
    served: Batches  # the loader, or one on the GPU
    state: TrainState
    multiply_adds: int  # of one image, forward


def _seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the seconds of one call, the median of `repeats`, after two that warm up."""
    spent = []
    for number in range(repeats + 2):
        started = time.perf_counter()
        run()
        wait_for(device)
        if number >= 2:
            spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def _batches_a_second(batches: Iterator[Batch], prefetched: int, device: torch.device, repeats: int) -> float:
    """Return batches a second of a loader that has some ready: those do not count, or it would seem endlessly fast."""
    for _ in range(prefetched + 2):
        next(batches)
    started = time.perf_counter()
    for _ in range(max(repeats, prefetched)):
        next(batches)
    wait_for(device)
    return max(repeats, prefetched) / (time.perf_counter() - started)


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


def synthetic(competition: Competition, size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth random images (N, H, W, C) and random targets (N, num_targets)."""

    def enlarged(image: np.ndarray) -> np.ndarray:
        return by_fours(image, size, lambda part: cv2.resize(part, (size[1], size[0])))

    rng = np.random.default_rng(0)
    kind = Decoding(bands=competition.bands, depth=competition.depth)
    coarse = rng.integers(0, 2**kind.depth, (count, 8, 8, kind.channels), dtype=kind.dtype)
    images = np.stack([enlarged(image) for image in coarse])
    columns: list[np.ndarray] = []
    for head in competition.heads:
        if head.kind == "number":
            columns.append(rng.normal(*head.scale, count).astype(np.float32))
        else:
            classes = 2 if head.kind == "labels" else head.num_classes
            columns += [rng.integers(0, classes, count) for _ in head.targets]
    return images, np.stack(columns, axis=1).astype(competition.target_type)


def parts_of(config: BenchConfig, competition: Competition, compute: Compute) -> Parts:
    """Make the parts of a training as src.train does. Raises InputError."""
    size = check_image_size(config.image_size or competition.image_size)
    images, targets = synthetic(competition, size, max(NUM_IMAGES, 4 * config.batch_size))
    rows = np.tile(np.arange(len(images)), PASSES)  # an epoch of many batches, as a training has
    boxes = np.tile([0.25, 0.25, 0.75, 0.75], (len(rows), 1)) if needs_boxes(config) else None
    targets = np.tile(targets, (PASSES, 1))
    loader = make_loader(config, competition, compute, Served(images, rows, targets, boxes=boxes), size, train=True)
    is_built = find_backbone(config.backbone).takes_weights_file  # from --weights, not only filled with it
    plain = replace(config, pretrained=False, weights=config.weights if is_built else None)
    network = make_network(plain, competition, size, False, loader.levels)
    costs = summarise(network.backbone, size, competition.channels)
    trained = wrap(network, config, competition, size)
    to_device(trained, compute)
    return Parts(
        competition=competition,
        compute=compute,
        loader=loader,
        served=choose_device_cache(config, loader, compute),
        state=make_state(config, trained, compute, competition.pad_class),
        multiply_adds=costs.multiply_adds,
    )


def limits(parts: Parts) -> dict[str, float]:
    """Return the images a second that copying memory and a large matrix product would allow all ranks together."""
    on_cpu = parts.served is parts.loader
    rate, ranks = matrix_rate(parts.compute), parts.compute.world.size
    return {
        # Each image is read and written once by the gather, and once more by the warp.
        "loader": ranks
        * bandwidth(torch.device("cpu") if on_cpu else parts.compute.device)
        / (4 * parts.loader.images[0].nbytes),
        # Backward costs twice what forward does.
        "step": ranks * rate / (3 * parts.multiply_adds),
        "inference": ranks * rate / parts.multiply_adds,
    }


def measure(config: BenchConfig, parts: Parts) -> dict[str, float]:
    """Return images a second of loader, step, both and inference, the share of waiting, and peak memory."""
    device, size = parts.compute.device, config.batch_size
    monitor = ResourceMonitor(device)
    batches = (batch for epoch in range(10**9) for batch in parts.served.epoch(epoch))
    batch = next(batches)
    waited: list[float] = []

    def step(given: Batch) -> None:
        train_step(parts.state, given, parts.competition.layout, config.lr, parts.compute, config)

    def both() -> None:
        started = time.perf_counter()
        given = next(batches)
        waited.append(time.perf_counter() - started)
        step(given)

    parts.state.network.train()
    figures = {
        "loader": size * _batches_a_second(batches, parts.loader.num_prefetched, device, config.steps),
        "step": size / _seconds(lambda: step(batch), device, config.steps),
    }
    seconds = _seconds(both, device, config.steps)
    predictor = Predictor(competition=parts.competition, compute=parts.compute, tta=False)
    once = len(parts.loader.rows) // PASSES
    shown = replace(parts.loader, rows=parts.loader.rows[:once], targets=parts.loader.targets[:once])
    spent = _seconds(lambda: predictor.predict(parts.state.scored, shown), device, 1)
    return {
        **figures,
        "both": size / seconds,
        "waiting": float(np.median(waited[2:])) / seconds,
        "inference": once / spent,
        **monitor.row(),
    }
