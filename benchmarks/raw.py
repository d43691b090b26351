"""CPU time per image of loaders of raw uint8 batches, shuffled, without augmentation: ours, FFCV and litdata.

    apt-get install pkg-config libopencv-dev libturbojpeg0-dev g++ python3-dev     # FFCV is built from source
    python -m benchmarks.raw

Installs FFCV and litdata in a temporary environment on top of this one's packages, and measures there, alternating
within one process (A B A B). Each reads its own file of the same random images, from the page cache. "bare gather" is
numpy's take into one reused buffer, a lower bound for any loader.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import processor, with_range
from src.config import NO_AUGMENT
from src.core import cli
from src.core.malloc import keep_freed_memory
from src.data.loader import Loader

Epoch = Callable[[int], Iterator[Any]]
PACKAGES = ("ffcv==1.0.2", "litdata==0.2.76")
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class RawConfig:
    """How much to measure."""

    sizes: tuple[tuple[int, int], ...] = ((64, 128), (128, 128), (224, 224))
    num_images: int = 4096
    rounds: int = 5
    inside: bool = False
    """Internal: this process runs in the temporary environment."""


class Images:
    """Random images and labels in the form that the writers of FFCV and litdata take."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        return self.images[row], row % 10

    def as_dict(self, row: int) -> dict[str, Any]:
        return {"image": self.images[row], "label": row % 10}


def bare(images: np.ndarray) -> Epoch:
    """Numpy's take into one buffer."""
    buffer = np.empty((BATCH, *images.shape[1:]), dtype=np.uint8)

    def epoch(number: int) -> Iterator[Any]:
        order = np.random.default_rng(number).permutation(len(images))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield np.take(images, rows, axis=0, out=buffer[: len(rows)], mode="clip")

    return epoch


def ours(images: np.ndarray) -> Epoch:
    """Our loader, shuffled."""
    loader = Loader(
        images=images,
        rows=np.arange(len(images)),
        targets=np.arange(len(images))[:, None] % 10,
        image_size=images.shape[1:3],
        batch_size=BATCH,
        policy=NO_AUGMENT,
    )
    return loader.epoch


def ffcv(images: np.ndarray, folder: Path) -> Epoch:
    """FFCV's raw RGB field, one thread."""
    fields, decoders, load, writer = (
        import_module(f"ffcv.{name}") for name in ("fields", "fields.decoders", "loader", "writer")
    )
    to_tensor = import_module("ffcv.transforms").ToTensor
    file = folder / "images.beton"
    columns = {"image": fields.RGBImageField(write_mode="raw"), "label": fields.IntField()}
    writer.DatasetWriter(str(file), columns, num_workers=1).from_indexed_dataset(Images(images))
    loader = load.Loader(
        str(file),
        batch_size=BATCH,
        num_workers=1,
        order=load.OrderOption.RANDOM,
        os_cache=True,
        pipelines={
            "image": [decoders.SimpleRGBImageDecoder(), to_tensor()],
            "label": [decoders.IntDecoder(), to_tensor()],
        },
    )
    return lambda number: iter(loader)


def litdata(images: np.ndarray, folder: Path) -> Epoch:
    """litdata's chunks of raw arrays, in this process."""
    module = import_module("litdata")
    chunk_dir = str(folder / "chunks")
    rows = list(range(len(images)))
    module.optimize(fn=Images(images).as_dict, inputs=rows, output_dir=chunk_dir, chunk_bytes="64MB", num_workers=1)
    dataset = module.StreamingDataset(chunk_dir, shuffle=True)
    loader = module.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0)
    return lambda number: iter(loader)


def measure(size: tuple[int, int], config: RawConfig) -> dict[str, list[float]]:
    """Return the CPU microseconds per image of each loader, by round."""
    folder = Path(tempfile.mkdtemp())
    try:
        shape = (config.num_images, *size, 3)
        written = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        written[:] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        images = np.load(folder / "images.npy", mmap_mode="r")
        ways: dict[str, Epoch] = {"bare gather": bare(images), "ours": ours(images)}
        for name, make in (("FFCV", ffcv), ("litdata", litdata)):
            try:
                ways[name] = make(images, folder)
            except ImportError as error:
                print(f"{name} is not available here: {error}")
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(config.rounds + 1):  # round 0 is a warm-up: FFCV compiles, pages are read
            for name, epoch in ways.items():
                started, count = time.process_time(), 0
                for batch in epoch(number):
                    count += len(batch["image"] if isinstance(batch, dict) else batch[0] if name == "FFCV" else batch)
                if number:
                    spent[name].append(1e6 * (time.process_time() - started) / count)
        return spent
    finally:
        shutil.rmtree(folder)


def _run_in_temporary_environment() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        paths = {"base": folder, "platbase": folder}
        Path(sysconfig.get_path("purelib", vars=paths), "base.pth").write_text(sysconfig.get_path("purelib"))
        for package in ("setuptools", *PACKAGES):  # one by one, so that litdata is measured even if FFCV does not build
            command = [str(python), "-m", "pip", "install", "--quiet", "--no-build-isolation", package]
            if subprocess.run(command, check=False).returncode:
                print(f"{package} cannot be installed here; see above")
        flags = [flag for flag in sys.argv[1:] if flag != "--inside"]
        subprocess.run([python, "-m", "benchmarks.raw", "--inside", *flags], check=True)


def main(config: RawConfig) -> None:
    """Print a table."""
    if not config.inside:
        _run_in_temporary_environment()
        return
    keep_freed_memory()  # as src.train does
    print(f"{processor()}; CPU µs per image, median (min to max) of {config.rounds} rounds, batches of {BATCH}")
    for size in config.sizes:
        spent = measure(size, config)
        for name, values in spent.items():
            ratio = np.median(np.array(values) / np.array(spent["ours"]))
            print(f"{size[0]}x{size[1]} {name:12} {with_range(values, '.1f')}, "
                  f"{ratio:.2f} times ours", flush=True)  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    cli.run(main, RawConfig, __doc__)
