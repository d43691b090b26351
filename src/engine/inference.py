"""The one way from images to probabilities: validation, test and test-time augmentation all come here."""

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from src.competitions.spec import Head
from src.data.augment import warp_batch
from src.data.device import warp_all
from src.data.loader import Loader
from src.engine.heads import probabilities_of
from src.inputs import InputError

Forward = Callable[[torch.Tensor], torch.Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Compute:
    """A device and the precision of its matrix products."""

    device: torch.device
    dtype: torch.dtype

    @property
    def num_loader_threads(self) -> int:
        """How many threads should prepare batches: none where the cores are busy with the steps themselves."""
        return 0 if self.device.type == "cpu" else min(4, os.cpu_count() or 1)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass; it does nothing at full precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_compute(device: str, precision: str) -> Compute:
    """Resolve "auto" to what this machine has. Raises InputError for a device that is not there."""
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


def keep_freed_memory() -> None:
    """Let glibc keep what torch frees, for the next step, in place of giving it back to the system each time.

    A CPU step frees and asks for the same large activations again and again; without this a fifth of its time went into
    page faults (benchmarks/memory.py). Does nothing where the C library is another.
    """
    libc_name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    mallopt = getattr(ctypes.CDLL(libc_name), "mallopt", None) if libc_name else None
    if mallopt:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def be_deterministic() -> None:
    """Let torch choose only algorithms that give the same bits each time; an operation without one raises an error."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it, CUDA's matrix products are refused
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


class Normalise(nn.Module):
    """uint8 images (B, H, W, 3) to normalised float32 (B, C, H, W) in channels_last order, on the images' device.

    C is the length of `mean`: 3, or 1 for grey pictures, whose three channels are alike.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int) -> None:
        super().__init__()
        self.channels = len(mean)
        # Rows are seen as W * 3 flat values: broadcasting over a last axis of 3 is several times slower on a CPU.
        self.register_buffer("shift", torch.tensor(mean).repeat(width) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(std).repeat(width) * 255), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images[..., : self.channels]
        flat = images.flatten(2).float()  # (B, H, W * C)
        width = flat.shape[2]  # images that grow are narrower at first
        return flat.sub_(self.shift[:width]).mul_(self.scale[:width]).view(images.shape).permute(0, 3, 1, 2)


class Network(nn.Module):
    """Normalisation and a backbone: uint8 images (B, H, W, 3) to logits (B, sum of num_classes)."""

    def __init__(self, backbone: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.normalise, self.backbone = normalise, backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.backbone(self.normalise(images))
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the last layer of a timm backbone sees: (B, D)."""
        hidden: Any = self.backbone
        features: torch.Tensor = hidden.forward_head(hidden.forward_features(self.normalise(images)), pre_logits=True)
        return features


def to_device(network: nn.Module, compute: Compute) -> nn.Module:
    """Move a network to the device, in the memory order that convolutions like best."""
    return network.to(compute.device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_probabilities(
    network: nn.Module,
    loader: Loader,
    heads: Sequence[Head],
    compute: Compute,
    views: Sequence[np.ndarray] = (),
    forward: Forward | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N, sum of num_classes) float32 arrays: of the plain images, and the mean over them and all views.

    Each image is gathered once for all views. `views` are affine matrices from `augment.tta_views`, without the
    original. `forward` stands for the network where it is compiled.
    """
    network.eval()
    forward = forward or network
    plain, mean = [], []
    for batch in loader.epoch(0):
        images = batch["image"].to(compute.device, non_blocking=True)
        total = first = _forward(forward, images, heads, compute)
        for matrix in views:
            total = total + _forward(forward, images, heads, compute, matrix, loader.mirror_ok)
        plain.append(first.cpu().numpy())
        mean.append((total / (1 + len(views))).cpu().numpy())
    return _joined(plain), _joined(mean)


def warped(images: torch.Tensor, matrix: np.ndarray, mirror_ok: bool) -> torch.Tensor:
    """Return one view of (B, H, W, 3) uint8 images, made where they lie: by opencv on a CPU, in one pass on a GPU."""
    if images.device.type == "cpu":
        return torch.from_numpy(warp_batch(images.numpy(), matrix, mirror_ok))
    return warp_all(images, matrix, mirror_ok)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error tells that the GPU, or the machine, has no memory left."""
    words = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _forward(
    network: Forward,
    images: torch.Tensor,
    heads: Sequence[Head],
    compute: Compute,
    matrix: np.ndarray | None = None,
    mirror_ok: bool = False,
) -> torch.Tensor:
    """Return the probabilities of images, or of one view of them; in halves where the memory does not suffice."""
    try:
        seen = images if matrix is None else warped(images, matrix, mirror_ok)
        with compute.autocast():
            logits = network(seen)
        return probabilities_of(logits, heads)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(images) < 2:
            raise
    halves = images.tensor_split(2)
    return torch.cat([_forward(network, half, heads, compute, matrix, mirror_ok) for half in halves])


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts)).astype(np.float32)
