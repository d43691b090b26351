"""Every command's flags: a field is a flag, its docstring the help text. Standard library only: --help is quick."""

from src.config.answer import Adjusting, BlendConfig, EvaluateConfig, InferenceFlags, PredictConfig
from src.config.augment import NO_AUGMENT, Augment
from src.config.auto import AutoConfig
from src.config.exporting import ExportConfig, ServeConfig
from src.config.handin import DownloadConfig, SubmitConfig
from src.config.paths import Device, Paths, PixelPaths, Precision
from src.config.prepare import PrepareConfig
from src.config.search import SearchConfig
from src.config.sweep import SweepConfig
from src.config.tools import CropsConfig, DoctorConfig, MakeDemoConfig, SummaryConfig
from src.config.train import BenchConfig, TrainConfig, TrainSettings
from src.config.watch import CompareConfig, WatchConfig

__all__ = [
    "NO_AUGMENT",
    "Adjusting",
    "Augment",
    "AutoConfig",
    "BenchConfig",
    "BlendConfig",
    "CompareConfig",
    "CropsConfig",
    "Device",
    "DoctorConfig",
    "DownloadConfig",
    "EvaluateConfig",
    "ExportConfig",
    "InferenceFlags",
    "MakeDemoConfig",
    "Paths",
    "PixelPaths",
    "Precision",
    "PredictConfig",
    "PrepareConfig",
    "SubmitConfig",
    "ServeConfig",
    "SearchConfig",
    "SummaryConfig",
    "SweepConfig",
    "TrainConfig",
    "TrainSettings",
    "WatchConfig",
]
