"""Images per second of prediction with five views: the textbook way and ours, alternating in fresh processes (A B A B).

    python -m benchmarks.inference --weights tf_efficientnet_lite0.safetensors      # input/svhn, about 10 minutes

Textbook: a Dataset that opens each file with PIL, resizes and augments it slightly with torchvision, a DataLoader with
two workers, one pass per view (so each image is decoded five times), and timm's network unchanged. Ours: decode into
the cache (included in "with decoding"; done once for all folds and runs), then the functions of src.predict.
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

from benchmarks.table import processor
from src.competitions.svhn import COMPETITION as STREET
from src.core import cli
from src.core.malloc import keep_freed_memory
from src.core.reading import InputFiles
from src.core.runtime import choose_compute, to_device
from src.core.zips import read_location
from src.data.cache import build_cache
from src.data.loader import INFERENCE_BATCH_SIZE, Loader
from src.data.tta import tta_views
from src.inference.autotune import Wanted, fastest
from src.inference.predictor import predict_probabilities
from src.models.network import Network, Normalise

MEAN = STD = (0.5, 0.5, 0.5)
SIZE, VIEWS = (64, 128), 5


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """What to measure."""

    weights: Path
    input_dir: Path = Path("input")
    num_images: int = 1000
    rounds: int = 3
    way: Literal["", "textbook", "ours", "compiled"] = ""
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


def _measure(config: InferenceConfig) -> None:
    files = InputFiles(config.input_dir / "svhn")
    paths = files.images("mchar_test_a")[: config.num_images]
    overlay = {"file": str(config.weights)}
    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=66
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        if config.way == "textbook":
            plain_files = [Path(folder, f"{row}.png") for row in range(len(paths))]
            for file, path in zip(plain_files, paths, strict=True):
                file.write_bytes(read_location(files.located[path]))
            started = time.perf_counter()
            textbook(network, plain_files)
            print(f"{len(paths) / (time.perf_counter() - started):.1f}")
            return
        keep_freed_memory()
        cv2.setNumThreads(0)
        compute = choose_compute("cpu", "fp32")
        started = time.perf_counter()
        loader = decoded_loader(Path(folder), paths, files)
        decoded = time.perf_counter()
        full_model = to_device(Network(network, Normalise(MEAN, STD, SIZE[1])), compute)
        views = list(tta_views(False, SIZE).values())[1:]
        compile_mode: Wanted = "on" if config.way == "compiled" else "off"
        forward, loader, _ = fastest(
            full_model, loader, compute, VIEWS, INFERENCE_BATCH_SIZE, compile_mode, "torch", STREET.layout
        )
        ready = time.perf_counter()
        predict_probabilities(full_model, loader, STREET.layout, compute, views, forward)
        spent = time.perf_counter() - ready
        print(f"{len(paths) / spent:.1f} {len(paths) / (spent + decoded - started):.1f} {ready - decoded:.1f}")


def decoded_loader(folder: Path, paths: list[str], files: InputFiles) -> Loader:
    """Decode images into a cache below the folder and return a loader of them."""
    cache, _ = build_cache(folder, "test", paths, files, SIZE)
    return Loader(
        images=cache.images,
        rows=np.arange(len(paths)),
        targets=np.zeros((len(paths), 0), np.int64),
        image_size=SIZE,
        batch_size=INFERENCE_BATCH_SIZE,
    )


def main(config: InferenceConfig) -> None:
    """Print images/s of each way per round, and the ratios."""
    if config.way:
        _measure(config)
        return
    print(f"{processor()}, torch {torch.__version__}, n = {config.num_images}, {VIEWS} views, 64x128")
    command = [sys.executable, "-m", "benchmarks.inference", "--weights", str(config.weights)]
    command += ["--input-dir", str(config.input_dir), "--num-images", str(config.num_images), "--way"]
    for _ in range(config.rounds):
        found = {}
        for way in ("textbook", "ours", "compiled"):
            finished = subprocess.run([*command, way], capture_output=True, text=True, check=True)
            found[way] = [float(word) for word in finished.stdout.splitlines()[-1].split()]
        slow = found["textbook"][0]
        print(f"textbook {slow:.1f} images/s", end="")
        for way in ("ours", "compiled"):
            rate, with_decoding, compiling = found[way]
            print(f"; {way} {rate:.1f} ({rate / slow:.2f} times; {with_decoding / slow:.2f} with decoding"
                  + (f"; {compiling:.0f} s to compile" if way == "compiled" else "") + ")", end="")  # fmt: skip
        print(flush=True)


if __name__ == "__main__":
    cli.run(main, InferenceConfig, __doc__)
