"""Every command's flags: a field is a flag, its docstring the help text. Standard library only: --help is quick."""

from src.config.answer import BlendConfig, EvaluateConfig, InferenceFlags, PredictConfig
from src.config.augment import NO_AUGMENT, Augment
from src.config.auto import AutoConfig
from src.config.paths import Device, Paths, PixelPaths, Precision
from src.config.prepare import PrepareConfig
from src.config.search import SearchConfig
from src.config.sweep import SweepConfig
from src.config.tools import DoctorConfig, MakeDemoConfig, SummaryConfig
from src.config.train import BenchConfig, TrainConfig, TrainSettings

__all__ = [
    "NO_AUGMENT",
    "Augment",
    "AutoConfig",
    "BenchConfig",
    "BlendConfig",
    "Device",
    "DoctorConfig",
    "EvaluateConfig",
    "InferenceFlags",
    "MakeDemoConfig",
    "Paths",
    "PixelPaths",
    "Precision",
    "PredictConfig",
    "PrepareConfig",
    "SearchConfig",
    "SummaryConfig",
    "SweepConfig",
    "TrainConfig",
    "TrainSettings",
]
