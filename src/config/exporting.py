"""Flags of export and serve."""

from dataclasses import dataclass
from typing import Literal

from src.config.paths import Device, PixelPaths, Precision


@dataclass(frozen=True, kw_only=True)
class ExportConfig(PixelPaths):
    """A run's networks as one file, from images to probabilities."""

    run_name: str = "baseline"
    """Name of the run."""
    folds: tuple[int, ...] | None = None
    """Folds whose mean the file answers with; default: all that are trained."""
    format: Literal["onnx", "torch", "both"] = "onnx"
    """onnx: model.onnx, for ONNX Runtime and others (requirements-export.txt); torch: model.pt2, for torch.export.load;
    both."""
    tta: bool = False
    """Put the views that predict uses into the file, which takes that many times as long to run; default: the plain
    image."""
    quantize: Literal["none", "int8"] = "none"
    """int8: write model_int8.onnx too, weights in 8 bits, and measure on the held-out images what that costs."""
    num_check: int = 256
    """Training images on which the file must agree with predict to 1e-4."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig(PixelPaths):
    """A page to try a run on images of one's own, and an HTTP API."""

    run_name: str = "baseline"
    """Name of the run."""
    folds: tuple[int, ...] | None = None
    """Folds to use; default: all that are trained."""
    tta: bool = True
    """Average over the views that predict uses, or the plain image only."""
    engine: Literal["torch", "onnx"] = "torch"
    """What runs the networks. onnx: ONNX Runtime, on a CPU in fp32 (requirements-export.txt): faster, after up to half
    a minute for each fold."""
    device: Device = "auto"
    """auto: cuda, mps or cpu, the first that this machine has."""
    precision: Precision = "auto"
    """auto: bf16 if the GPU has it, else fp16; fp32 on a CPU."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 accepts connections from other machines, without a password."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    max_mb: float = 10.0
    """MB that a request may have, all its files together."""
    max_files: int = 16
    """Images in one request."""
    max_pixels: int = 25_000_000
    """Images with more pixels are refused from their header."""
    max_waiting: int = 512
    """Images that may wait for their turn; further requests are told to come back later (503)."""
