"""Images per second of predict's five views by engine: torch, torch.compile and ONNX Runtime, against the textbook way.

    python -m benchmarks.inference --weights tf_efficientnet_lite0.safetensors      # input/svhn, 15 minutes

Ways alternate in fresh processes (A B C D A B C D ...), each round's ratios are printed. Textbook: a Dataset that opens
each file with PIL, resizes and augments it slightly with torchvision, a DataLoader with two workers, one pass per view
(so each image is decoded five times), and timm's network unchanged. Ours decode into the cache first (once for all
folds and runs); "with decoding" includes that, neither includes making the graph or compiling, which is printed. The
engines' largest difference of a probability from torch is printed too, and the same ratios by processor time, which
says more on a machine where others work too.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measuring import cpu_seconds, processor
from src.competitions.svhn import COMPETITION as STREET
from src.core import cli
from src.core.malloc import keep_freed_memory
from src.core.reading import InputFiles
from src.core.runtime import choose_compute, to_device
from src.core.zips import read_location
from src.data.cache import build_cache
from src.data.loader import INFERENCE_BATCH_SIZE, unlabelled
from src.data.tta import tta_views
from src.inference.autotune import Engine, Wanted, fastest, largest_difference
from src.inference.predictor import predict_probabilities
from src.models.network import Network, Normalise

MEAN = STD = (0.5, 0.5, 0.5)
SIZE, VIEWS = (64, 128), 5
WAYS = ("textbook", "torch", "compiled", "onnx")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """What to measure."""

    weights: Path
    input_dir: Path = Path("input")
    backbone: str = "tf_efficientnet_lite0"
    num_images: int = 1000
    rounds: int = 3
    threads: int | None = None
    """Default: torch's, one per core."""
    way: Literal["", "textbook", "torch", "compiled", "onnx"] = ""
    """Internal: measure this way once."""


class Textbook(Dataset[torch.Tensor]):
    """One file per item, decoded each time."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize(SIZE),
                transforms.RandomAffine(0, translate=(0.03, 0.03), scale=(0.94, 1.06)),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[row]).convert("RGB"))


@torch.no_grad()
def textbook(network: torch.nn.Module, files: list[Path]) -> np.ndarray:
    """Return the mean probabilities over views, one pass per view."""
    total = np.zeros((len(files), 66), np.float32)
    for _ in range(VIEWS):
        loader = DataLoader(Textbook(files), batch_size=40, num_workers=2)
        parts = [network(images).unflatten(1, (6, 11)).softmax(dim=2).flatten(1) for images in loader]
        total += torch.cat(parts).numpy()
    return total / VIEWS


def _network(config: InferenceConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    overlay = {"file": str(config.weights)}
    return timm.create_model(
        config.backbone, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=STREET.layout.num_outputs
    ).eval()


def _measure(config: InferenceConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    files = InputFiles(config.input_dir / "svhn")
    paths, network = files.images("mchar_test_a")[: config.num_images], _network(config)
    with tempfile.TemporaryDirectory() as folder:
        if config.way == "textbook":
            plain_files = [Path(folder, f"{row}.png") for row in range(len(paths))]
            for file, path in zip(plain_files, paths, strict=True):
                file.write_bytes(read_location(files.located[path]))
            started, before = time.perf_counter(), cpu_seconds()
            textbook(network, plain_files)
            rate = len(paths) / (time.perf_counter() - started)
            print(f"{rate:.2f} {rate:.2f} {len(paths) / (cpu_seconds() - before):.2f} 0 0")
            return
        keep_freed_memory()
        cv2.setNumThreads(0)
        compute = choose_compute("cpu", "fp32")
        started = time.perf_counter()
        images = build_cache(Path(folder), "test", paths, files, SIZE)[0].images
        loader = unlabelled(images, np.arange(len(paths)), SIZE)
        decoding = time.perf_counter() - started
        full_model = to_device(Network(network, Normalise(MEAN, STD, SIZE[1])), compute)
        views, layout = list(tta_views(False, SIZE).values())[1:], STREET.layout
        mode: Wanted = "on" if config.way == "compiled" else "off"
        engine: Engine = "onnx" if config.way == "onnx" else "torch"
        started = time.perf_counter()
        way = fastest(full_model, loader, compute, VIEWS, INFERENCE_BATCH_SIZE, mode, engine, layout)
        making = time.perf_counter() - started
        started, before = time.perf_counter(), cpu_seconds()
        found = predict_probabilities(full_model, way.loader, layout, compute, views, way.forward).mean
        spent, used = time.perf_counter() - started, cpu_seconds() - before
        few = unlabelled(images, np.arange(256), SIZE)
        expected = predict_probabilities(full_model, few, layout, compute, views).mean
        difference = largest_difference(expected, found[:256], layout)
        rates = (len(paths) / seconds for seconds in (spent, spent + decoding, used))
        print(*(f"{rate:.2f}" for rate in rates), f"{making:.1f} {difference:.1e}")


def main(config: InferenceConfig) -> None:
    """Print images/s of each way per round, and the ratios to the textbook's."""
    if config.way:
        _measure(config)
        return
    import onnxruntime

    print(f"{processor()}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {config.backbone}, "
          f"n = {config.num_images}, {VIEWS} views, {SIZE[0]}x{SIZE[1]}")  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.inference", "--weights", str(config.weights)]
    command += ["--input-dir", str(config.input_dir), "--num-images", str(config.num_images)]
    command += ["--backbone", config.backbone, *(["--threads", str(config.threads)] if config.threads else [])]
    ratios: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(config.rounds):
        slow = slow_busy = 0.0
        for way in WAYS:
            finished = subprocess.run([*command, "--way", way], capture_output=True, text=True, check=True)
            numbers = (float(word) for word in finished.stdout.splitlines()[-1].split())
            rate, whole, by_busy, making, difference = numbers
            slow, slow_busy = slow or rate, slow_busy or by_busy
            ratios[way].append((rate / slow, by_busy / slow_busy))
            print(f"{way} {rate:.1f} images/s ({rate / slow:.2f} times; {whole / slow:.2f} with decoding; by processor "
                  f"time {by_busy / slow_busy:.2f}; {making:.0f} s to make; within {difference:.0e})",
                  flush=True)  # fmt: skip
    for way, values in ratios.items():
        wall, own = zip(*values, strict=True)
        print(f"{way}: {np.mean(wall):.2f} times the textbook's ({min(wall):.2f} to {max(wall):.2f}); by processor "
              f"time {np.mean(own):.2f} ({min(own):.2f} to {max(own):.2f})")  # fmt: skip


if __name__ == "__main__":
    cli.run(main, InferenceConfig, __doc__)
