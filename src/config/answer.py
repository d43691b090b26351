"""Flags of evaluate, predict and blend."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.config.paths import Device, PixelPaths, Precision


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(PixelPaths):
    """The out-of-fold score of a run."""

    run_name: str = "baseline"
    """Name of the run."""
    folds: tuple[int, ...] | None = None
    """Score these folds only and say so; default: all, and none may be missing."""
    tta: bool = True
    """Score the mean over the same views that predict uses, or the plain image."""
    num_worst: int = 200
    """Mistakes listed in worst.csv, the most confident first."""
    num_saliency: int = 200
    """Images of which the report shows what the network looked at: suspicious labels and confident mistakes; 0 is none,
    500 the most. No more than 10 seconds are spent on it."""


@dataclass(frozen=True, kw_only=True)
class InferenceFlags:
    """How test images are answered; the same bits on another day need the same values."""

    batch_size: int | None = None
    """Default: 256; with a GPU, the fastest of a few if predicting takes longer than 20 seconds."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: if a fold takes more than ten minutes and a trial shows it faster."""
    engine: Literal["auto", "torch", "onnx"] = "auto"
    """What runs the network. onnx: ONNX Runtime, on a CPU in fp32 (requirements-export.txt); auto: that, if it is
    installed, a fold takes more than two minutes, and a trial shows it faster and within 1e-4 of torch; else torch."""
    device: Device = "auto"
    """auto: cuda, mps or cpu, the first that this machine has."""
    precision: Precision = "auto"
    """auto: bf16 if the GPU has it, else fp16; fp32 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Adjusting:
    """What is done to averaged predictions, fitted out of fold."""

    calibrate: bool = False
    """Calibrate class probabilities on out-of-fold predictions; helps if probabilities are submitted or scored."""
    priors: Literal["train", "test"] = "train"
    """test: also correct for the class shares of the test set, estimated by EM, if they differ from the labelled
    images' by more than chance."""

    @property
    def is_adjusting(self) -> bool:
        return self.calibrate or self.priors == "test"


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Adjusting, InferenceFlags, PixelPaths):
    """A validated submission."""

    run_name: tuple[str, ...] = ("baseline",)
    """One or more runs; their probabilities are averaged with equal weights (see blend for fitted ones)."""
    folds: tuple[int, ...] | None = None
    """Folds to use; default: all that are trained."""
    tta: bool = True
    """Average over label-safe views, or the plain image only."""
    unsure_only: bool = False
    """Use further views only for images whose answer they might change, judged by out-of-fold predictions: two to
    three times as fast at nearly the same score (both scores are printed)."""
    name: str | None = None
    """Name of the submission; default: the runs' names joined by +."""
    minutes: float | None = None
    """Finish within this time, with fewer views and folds if need be, and say so: for competitions that run code."""


@dataclass(frozen=True, kw_only=True)
class BlendConfig(Adjusting, InferenceFlags, PixelPaths):
    """Several runs combined with weights fitted on their out-of-fold predictions."""

    run_name: tuple[str, ...] = ()
    """Runs with out-of-fold predictions for the same images: two or more, or one beside --external."""
    external: tuple[Path, ...] = ()
    """Predictions of another tool, in .npz files with image_path and probabilities of the held-out and the test images
    (see docs/blending.md)."""
    name: str = "blend"
    """Name of the blended submission."""
    stack: bool = False
    """A small model judges which run's answer is right, instead of weights alone; for one class or strings."""
    rounds: int = 30
    """Rounds of greedy selection with replacement."""
    outer_folds: int = 5
    """Folds of the outer cross-validation that measures the gain."""
    seed: int = 0
    """Random seed for the outer folds."""
