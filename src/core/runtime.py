"""What a command runs on: device, precision, determinism."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import cv2
import torch
from torch import nn

from src.core.errors import InputError
from src.core.machine import num_cores
from src.core.malloc import keep_freed_memory
from src.core.world import World

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Compute:
    """A device and the precision of its matrix products."""

    device: torch.device
    dtype: torch.dtype
    world: World = World()

    @property
    def num_loader_threads(self) -> int:
        """How many threads prepare batches: none if the cores are busy with the steps themselves."""
        return 0 if self.device.type == "cpu" else min(4, num_cores())

    @property
    def has_idle_cores(self) -> bool:
        """Whether training leaves cores without work."""
        busy = torch.get_num_threads() if self.device.type == "cpu" else 1
        return num_cores() > busy + self.num_loader_threads

    def describe(self) -> str:
        """Return the device's name and the precision, for people."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else self.device.type
        return f"{name}, {str(self.dtype).removeprefix('torch.')}"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass; it does nothing at full precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_compute(device: str, precision: str) -> Compute:
    """Resolve "auto" to what this machine has. Raises InputError for a device that it lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name in available if available[name]) if device == "auto" else device
    if not available[chosen]:
        raise InputError(
            f"--device {device}: this machine or this torch ({torch.__version__}) has none; use --device cpu"
        )
    if precision == "auto":
        gpu_precision = (
            "bf16" if chosen == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        )
        precision = gpu_precision if chosen == "cuda" else "fp32"
    return Compute(torch.device(chosen), DTYPES[precision])


def in_world(compute: Compute, world: World) -> Compute:
    """Return what this rank computes on: of several GPUs the one of its number. Raises InputError if there is none."""
    device = compute.device
    if device.type == "cuda" and world.size > 1:
        if world.local_rank >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise InputError(f"torchrun started more processes than the {count} GPUs here; use --nproc-per-node gpu")
        device = torch.device("cuda", world.local_rank)
        torch.cuda.set_device(device)
    return replace(compute, device=device, world=world)


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work: a GPU is still busy when a call returns."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def to_device(network: nn.Module, compute: Compute) -> nn.Module:
    """Move a network to the device, in the memory format that convolutions run fastest in."""
    return network.to(compute.device).to(memory_format=torch.channels_last)


def set_up_process(deterministic: bool = False) -> None:
    """Set what a command that trains or predicts needs of this process: memory, opencv's threads, determinism."""
    keep_freed_memory()
    cv2.setNumThreads(0)  # batches are prepared image by image; opencv's own threads would compete with torch's
    if deterministic:
        be_deterministic()


def be_deterministic() -> None:
    """Let torch choose only algorithms that give the same bits each time; an operation without one raises an error."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it, CUDA's matrix products are refused
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


@contextmanager
def explained(deterministic: bool) -> Iterator[None]:
    """Turn torch's errors that a user can do something about into an InputError that says what."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise InputError(
                "out of memory, although batches are split as far as possible; use a smaller --image-size, "
                "--batch-size or --backbone, or --cache-on-device off"
            ) from error
        if "deterministic" in str(error) and deterministic:
            raise InputError(f"--deterministic: {str(error).split('. ')[0]}; leave the flag out") from error
        raise


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that the GPU, or the machine, has no memory left."""
    words = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
