"""How to predict fastest: the batch size, and whether torch.compile pays back, told by timing a few batches."""

import os
import shutil
import time
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from src.data.loader import Loader, gather
from src.engine.inference import Compute, Forward, is_out_of_memory
from src.inputs import InputError

Wanted = Literal["auto", "on", "off"]
USUAL, BATCH_SIZES = 256, (64, 512, 1024)
CLEARLY = 1.05  # times the usual rate; less is noise
WORTH_PROBING = 20.0  # seconds of predicting that a probe of a few batches may precede
WORTH_COMPILING = 180.0  # ... and the attempt to compile, which takes up to a minute


def has_compiler() -> bool:
    """Return whether torch.compile finds a C++ compiler."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "gcc", "clang++")))


def check_compile(wanted: bool) -> None:
    """Raise InputError where torch.compile is asked for and cannot be had."""
    if wanted and not has_compiler():
        raise InputError("--compile: needs a C++ compiler (Debian: apt-get install g++ python3-dev); or leave it out")


def images_per_second(forward: Forward, images: torch.Tensor, compute: Compute, seconds: float = 0.5) -> float:
    """Return the rate at which `forward` takes images (B, H, W, 3), after one call that warms up."""
    with compute.autocast():
        forward(images)
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            forward(images)
            if compute.device.type == "cuda":
                torch.cuda.synchronize()
            calls += 1
    return calls * len(images) / (time.perf_counter() - started)


def best_batch_size(forward: Forward, images: torch.Tensor, compute: Compute, total: int) -> int:
    """Return the fastest of BATCH_SIZES, or the usual one where predicting `total` images is soon done.

    images (B, H, W, 3) are any of those to predict, on the device; they are repeated.
    """
    rates = {USUAL: images_per_second(forward, _repeated(images, USUAL), compute)}
    if total / rates[USUAL] < WORTH_PROBING:
        return USUAL
    for size in BATCH_SIZES:
        try:
            rates[size] = images_per_second(forward, _repeated(images, size), compute)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break  # a larger one will not fit either
    best = max(rates, key=lambda size: rates[size])
    return best if rates[best] > CLEARLY * rates[USUAL] else USUAL


def compiled(network: nn.Module, images: torch.Tensor, compute: Compute, total: int, wanted: Wanted) -> Forward:
    """Return a compiled form of the network for batches of the shape of `images`; other batches go to the plain one.

    Only where `wanted` is "on", or "auto" and predicting `total` images takes minutes and is faster so.
    """
    if wanted == "off" or (wanted == "auto" and not has_compiler()):
        return network
    plain = images_per_second(network, images, compute)
    if wanted == "auto" and total / plain < WORTH_COMPILING:
        return network
    # On a CPU the weights become constants: batch norm disappears into the convolutions.
    quick = torch.compile(network, options={"freezing": True} if compute.device.type == "cpu" else {})
    gain = images_per_second(quick, images, compute) / plain
    print(f"predicting with torch.compile: {gain:.2f} times the plain network's speed")
    if wanted == "auto" and gain < CLEARLY:
        return network
    return lambda batch: quick(batch) if batch.shape == images.shape else network(batch)


@torch.inference_mode()
def fastest(
    network: nn.Module, loader: Loader, compute: Compute, num_views: int, batch_size: int | None, wanted: Wanted
) -> tuple[Forward, Loader]:
    """Return what predicts the loader's images in `num_views` views each at the highest rate, and the loader for it."""
    network.eval()
    total = num_views * len(loader.rows)
    sample = torch.from_numpy(gather(loader.images, loader.rows[: BATCH_SIZES[0]], loader.image_size))
    sample = sample.to(compute.device)
    size = batch_size or best_batch_size(network, sample, compute, total)
    return compiled(network, _repeated(sample, size), compute, total, wanted), replace(loader, batch_size=size)


def _repeated(images: torch.Tensor, size: int) -> torch.Tensor:
    return images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
