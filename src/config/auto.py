"""Flags of auto."""

from dataclasses import dataclass
from pathlib import Path

from src.config.paths import Device, Paths


@dataclass(frozen=True, kw_only=True)
class AutoConfig(Paths):
    """A validated submission within a time limit."""

    minutes: float = 60.0
    """Time for all of it: prepare, measuring, train, evaluate, predict. A killed auto resumes with what was left."""
    run_name: str = "auto"
    """Name of the run and of the submission."""
    weights: Path | None = None
    """Pretrained weights of --backbone in a file, or for strings a text recogniser's ONNX file; default: downloaded
    from the hub; if that fails, training starts from scratch."""
    backbone: str = "tf_efficientnet_lite0"
    """The pretrained network, any of timm's."""
    pretrained: bool = True
    """Whether pretrained weights may be used; some competitions forbid them."""
    device: Device = "auto"
    """auto: cuda, mps or cpu, the first that this machine has."""
    seed: int = 0
    """Random seed for training."""
