"""How to predict fastest: the batch size on a GPU, and whether ONNX Runtime or torch.compile pays back on a CPU.

Decided by timing batches.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.core.runtime import Compute, is_out_of_memory, wait_for
from src.data.loader import INFERENCE_BATCH_SIZE, Loader, gather
from src.inference.onnx_runtime import OnnxForward, fits, is_installed
from src.models.heads import probabilities_of

Wanted = Literal["auto", "on", "off"]
Engine = Literal["auto", "torch", "onnx"]
Forward = Callable[[torch.Tensor], torch.Tensor]
SAMPLE_SIZE = 64  # images of the batch whose rate tells how long predicting would take
LARGER_BATCH_SIZES = (512, 1024)  # tried on a GPU
MIN_SECONDS_TO_TUNE = 20.0  # of predicting; below it a trial of a few batches does not pay back
MIN_SECONDS_TO_COMPILE = 600.0  # ... nor compiling, which takes up to two minutes
MIN_SECONDS_TO_EXPORT = 120.0  # ... nor making an ONNX graph, which takes up to half a minute
MIN_SPEEDUP = 1.05  # less is noise
MAX_DIFFERENCE = 1e-4  # between probabilities of two engines
TRIAL_IMAGES = 256  # that two engines are compared on


class InferenceBackend(NamedTuple):
    """How images are predicted: by what, in which batches; engine: torch, torch.compile or onnx."""

    forward: Forward
    loader: Loader
    engine: str


def has_compiler() -> bool:
    """Return whether torch.compile finds the C++ compiler that it needs."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def check_compile(wanted: bool) -> None:
    """Raise InputError if torch.compile is asked for without a compiler."""
    if wanted and not has_compiler():
        raise InputError("--compile: needs a C++ compiler (Debian: apt-get install g++ python3-dev); or leave it out")


def images_per_second(forward: Forward, images: torch.Tensor, compute: Compute, seconds: float = 0.5) -> float:
    """Return the rate at which `forward` takes images (B, H, W, 3) after one warm-up call; 0 if memory runs out."""
    calls = 0
    try:
        with compute.autocast():
            forward(images)
            wait_for(compute.device)
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                forward(images)
                wait_for(compute.device)
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


def compiled(
    network: nn.Module, images: torch.Tensor, compute: Compute, mode: Wanted, layout: HeadLayout | None = None
) -> Forward:
    """Return a compiled form of the network for batches of the shape of `images`; other batches use the plain one.

    If `mode` is "auto", only if compiling succeeds, is faster and gives the same probabilities (of a `layout`). Raises
    InputError if "on" is asked for and it fails or gives others.
    """
    torch.compiler.reset()  # a process may compile a function only a few times, and each fold's network needs its own
    freezing = compute.device.type == "cpu"  # the weights become constants, and batch norm disappears into them
    quick, shape = torch.compile(network, dynamic=False, options={"freezing": freezing}), images.shape
    try:
        gain = images_per_second(quick, images, compute) / max(1e-9, images_per_second(network, images, compute))
        if gain == 0:
            print("predicting without torch.compile: such a batch does not fit in memory")
        if gain == 0 or (mode == "auto" and gain < MIN_SPEEDUP):
            return network
        excess = _excess(quick, network, images, compute, layout) if layout else 0.0
    except (RuntimeError, OSError, ImportError) as error:  # torch's own are RuntimeErrors; no compiler, no headers
        if mode == "on":
            raise InputError(f"--compile on: torch.compile fails here ({str(error).splitlines()[0]})") from error
        print("predicting without torch.compile, which fails here")
        return network
    if not excess <= MAX_DIFFERENCE:
        if mode == "on":
            raise InputError(f"--compile on: differs by {excess:.1e} from the plain network; use --compile off")
        print(f"predicting without torch.compile, which differs by {excess:.1e} here")
        return network
    print(f"predicting with torch.compile, {gain:.2f} times as fast")
    return lambda batch: quick(batch) if batch.shape == shape else network(batch)


def _excess(quick: Forward, network: nn.Module, images: torch.Tensor, compute: Compute, layout: HeadLayout) -> float:
    """Return by how much probabilities of a compiled network differ, beyond what 16 bits explain: both forms round."""

    def answers(forward: Forward, batch: torch.Tensor) -> np.ndarray:
        found: np.ndarray = probabilities_of(forward(batch)[:SAMPLE_SIZE], layout).cpu().numpy()
        return found

    few = images[:SAMPLE_SIZE]
    with compute.autocast():
        found, plain = answers(quick, images), answers(network, few)
    rounding = 0.0 if compute.dtype == torch.float32 else largest_difference(answers(network, few), plain, layout)
    return largest_difference(found, plain, layout) - 2 * rounding


def largest_difference(one: np.ndarray, other: np.ndarray, layout: HeadLayout) -> float:
    """Return the largest difference of predictions (N, num_outputs), numbers in their standard deviations."""
    stds = np.repeat([std for _, std in layout.scales], layout.widths)
    return float((np.abs(one - other) / stds).max())


def by_onnx(network: nn.Module, loader: Loader, compute: Compute, layout: HeadLayout, engine: Engine) -> Forward | None:
    """Return a form of the network that ONNX Runtime runs, or None.

    If `engine` is "auto", only if it is faster, and on images from all over the loader within MAX_DIFFERENCE of the
    network. Raises InputError if "onnx" is asked for and fails or gives other probabilities.
    """
    places = np.linspace(0, len(loader.rows) - 1, min(TRIAL_IMAGES, len(loader.rows))).astype(np.int64)
    images = torch.from_numpy(gather(loader.images, loader.rows[places], loader.image_size))
    try:
        quick = OnnxForward(network, images)
        found = probabilities_of(quick(images), layout)
    except InputError as error:
        if engine == "onnx":
            raise InputError(f"--engine onnx: {error}") from error
        print(f"predicting without ONNX Runtime, which fails here: {error}")
        return None
    difference = largest_difference(probabilities_of(network(images), layout).numpy(), found.numpy(), layout)
    if not difference <= MAX_DIFFERENCE:
        if engine == "onnx":
            raise InputError(f"--engine onnx: differs by {difference:.1e} from torch; use --engine torch")
        print(f"predicting without ONNX Runtime, which differs by {difference:.1e} here")
        return None
    batch = images[:SAMPLE_SIZE]
    gain = images_per_second(quick, batch, compute) / max(1e-9, images_per_second(network, batch, compute))
    if engine == "auto" and gain < MIN_SPEEDUP:
        return None
    print(f"predicting with ONNX Runtime, {gain:.2f} times as fast as torch, within {difference:.0e}")
    return quick


@torch.inference_mode()
def fastest(
    network: nn.Module,
    loader: Loader,
    compute: Compute,
    num_views: int,
    batch_size: int | None,
    mode: Wanted,
    engine: Engine = "torch",
    layout: HeadLayout | None = None,
) -> InferenceBackend:
    """Return the fastest way to predict the loader's images in `num_views` views each.

    ONNX Runtime is tried first, and torch.compile only if that is not used. Without a layout only torch is tried, and a
    compiled network's answers are not compared.
    """
    network.eval()
    served, total = replace(loader, batch_size=batch_size or INFERENCE_BATCH_SIZE), num_views * len(loader.rows)
    plain = InferenceBackend(network, served, "torch")
    if mode != "on" and engine != "onnx" and total <= 2 * INFERENCE_BATCH_SIZE:  # done before a trial would be
        return plain
    sample = torch.from_numpy(gather(loader.images, loader.rows[:SAMPLE_SIZE], loader.image_size)).to(compute.device)
    rate = images_per_second(network, sample, compute)
    if rate == 0:  # not even these fit: predict_probabilities halves them
        return plain
    if batch_size is None and compute.device.type != "cpu" and total / rate > MIN_SECONDS_TO_TUNE:
        served = replace(served, batch_size=best_batch_size(network, sample, compute))
    if layout and (engine == "onnx" or (engine == "auto" and mode != "on" and _may_export(compute, total / rate))):
        quick = by_onnx(network, served, compute, layout, engine)
        if quick:
            return InferenceBackend(quick, served, "onnx")
    if mode == "on" or (mode == "auto" and has_compiler() and total / rate > MIN_SECONDS_TO_COMPILE):
        forward = compiled(network, _repeated(sample, served.batch_size), compute, mode, layout)
        return InferenceBackend(forward, served, "torch" if forward is network else "torch.compile")
    return InferenceBackend(network, served, "torch")


def _may_export(compute: Compute, seconds: float) -> bool:
    return fits(compute) and seconds > MIN_SECONDS_TO_EXPORT and is_installed()


def _repeated(images: torch.Tensor, size: int) -> torch.Tensor:
    return images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
