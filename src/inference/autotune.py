"""How to predict fastest: the batch size on a GPU, and whether torch.compile pays back; decided by timing batches."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from src.core.errors import InputError
from src.core.runtime import Compute, is_out_of_memory
from src.data.loader import INFERENCE_BATCH_SIZE, Loader, gather

Wanted = Literal["auto", "on", "off"]
Forward = Callable[[torch.Tensor], torch.Tensor]
SAMPLE_SIZE = 64  # images of the batch whose rate tells how long predicting would take
LARGER_BATCH_SIZES = (512, 1024)  # tried on a GPU
MIN_SECONDS_TO_TUNE = 20.0  # of predicting; below it a trial of a few batches does not pay back
MIN_SECONDS_TO_COMPILE = 600.0  # ... nor compiling, which takes up to two minutes
MIN_SPEEDUP = 1.05  # less is noise


def has_compiler() -> bool:
    """Return whether torch.compile finds the C++ compiler that it needs."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def check_compile(wanted: bool) -> None:
    """Raise InputError if torch.compile is asked for without a compiler."""
    if wanted and not has_compiler():
        raise InputError("--compile: needs a C++ compiler (Debian: apt-get install g++ python3-dev); or leave it out")


def _wait(compute: Compute) -> None:
    if compute.device.type != "cpu":
        torch.accelerator.synchronize()


def images_per_second(forward: Forward, images: torch.Tensor, compute: Compute, seconds: float = 0.5) -> float:
    """Return the rate at which `forward` takes images (B, H, W, 3) after one warm-up call; 0 if memory runs out."""
    calls = 0
    try:
        with compute.autocast():
            forward(images)
            _wait(compute)
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                forward(images)
                _wait(compute)
                calls += 1
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return 0.0
    return calls * len(images) / (time.perf_counter() - started)


def best_batch_size(forward: Forward, images: torch.Tensor, compute: Compute) -> int:
    """Return the batch size with the highest rate; images (B, H, W, 3) on the device are repeated."""
    usual = images_per_second(forward, _repeated(images, INFERENCE_BATCH_SIZE), compute)
    rates = {
        size: images_per_second(forward, _repeated(images, size), compute)
        for size in (SAMPLE_SIZE, *LARGER_BATCH_SIZES)
    }
    best = max(rates, key=lambda size: rates[size])
    return best if rates[best] > MIN_SPEEDUP * usual else INFERENCE_BATCH_SIZE


def compiled(network: nn.Module, images: torch.Tensor, compute: Compute, mode: Wanted) -> Forward:
    """Return a compiled form of the network for batches of the shape of `images`; other batches use the plain one.

    If `mode` is "auto", only if compiling succeeds and is faster.
    """
    torch.compiler.reset()  # a process may compile a function only a few times, and each fold's network needs its own
    freezing = compute.device.type == "cpu"  # the weights become constants, and batch norm disappears into them
    quick, shape = torch.compile(network, dynamic=False, options={"freezing": freezing}), images.shape
    try:
        gain = images_per_second(quick, images, compute) / max(1e-9, images_per_second(network, images, compute))
    except (RuntimeError, OSError, ImportError) as error:  # torch's own are RuntimeErrors; no compiler, no headers
        if mode == "on":
            raise InputError(f"--compile on: torch.compile fails here ({str(error).splitlines()[0]})") from error
        print("predicting without torch.compile, which fails here")
        return network
    if mode == "auto" and gain < MIN_SPEEDUP:
        return network
    print(f"predicting with torch.compile, {gain:.2f} times as fast")
    return lambda batch: quick(batch) if batch.shape == shape else network(batch)


@torch.inference_mode()
def fastest(
    network: nn.Module, loader: Loader, compute: Compute, num_views: int, batch_size: int | None, mode: Wanted
) -> tuple[Forward, Loader]:
    """Return the fastest way to predict the loader's images in `num_views` views each, and the loader for it."""
    network.eval()
    served, total = replace(loader, batch_size=batch_size or INFERENCE_BATCH_SIZE), num_views * len(loader.rows)
    if mode != "on" and total <= 2 * INFERENCE_BATCH_SIZE:  # done before a trial would be
        return network, served
    sample = torch.from_numpy(gather(loader.images, loader.rows[:SAMPLE_SIZE], loader.image_size)).to(compute.device)
    rate = images_per_second(network, sample, compute)
    if rate == 0:  # not even these fit: predict_probabilities halves them
        return network, served
    if batch_size is None and compute.device.type != "cpu" and total / rate > MIN_SECONDS_TO_TUNE:
        served = replace(served, batch_size=best_batch_size(network, sample, compute))
    if mode == "on" or (mode == "auto" and has_compiler() and total / rate > MIN_SECONDS_TO_COMPILE):
        return compiled(network, _repeated(sample, served.batch_size), compute, mode), served
    return network, served


def _repeated(images: torch.Tensor, size: int) -> torch.Tensor:
    return images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
