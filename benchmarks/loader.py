"""CPU time per image of the cached loader against the textbook one, alternating within one run (A B A B).

    python -m benchmarks.loader                       # three sizes, about two minutes
    python -m benchmarks.loader --num-images 200 --rounds 2

The textbook loader opens each file with PIL, resizes and augments it with torchvision's transforms, in a DataLoader
with 0 or 2 workers. Ours gathers from the decoded cache. Both rotate, zoom, shift, change colours and flip by the
same amounts, and return normalised float32 batches. Images: house numbers of input/svhn/ (if absent, crops of
scikit-learn's sample photos), and 400x300 JPEG crops of those photos.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measuring import cpu_seconds, processor, with_range
from src.config import Augment
from src.core import cli
from src.core.malloc import keep_freed_memory
from src.core.reading import InputFiles
from src.core.zips import read_location
from src.data.images import decode_image, resize
from src.data.loader import Loader
from src.models.network import Normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POLICY = Augment(hflip=0.5, concat=0.0, tint=0.0)  # the defaults, except what torchvision cannot do


@dataclass(frozen=True, kw_only=True)
class LoaderBenchConfig:
    """How much to measure."""

    num_images: int = 1000
    rounds: int = 8
    input_dir: Path = Path("input")


class Textbook(Dataset[tuple[torch.Tensor, int]]):
    """One file per item, decoded each time."""

    def __init__(self, files: list[Path], size: tuple[int, int]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.RandomAffine(
                    POLICY.rotate,
                    translate=(POLICY.shift, POLICY.shift),
                    scale=(1 / (1 + POLICY.zoom), 1 + POLICY.zoom),
                    interpolation=transforms.InterpolationMode.BILINEAR,
                ),
                transforms.ColorJitter(POLICY.brightness, POLICY.contrast, POLICY.saturation),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[index]).convert("RGB")), 0


def photos(count: int) -> list[bytes]:
    """Return `count` JPEGs of 300x400 pixels (HxW), random crops of scikit-learn's two photos."""
    originals, rng = load_sample_images().images, np.random.default_rng(0)
    encoded = []
    for number in range(count):
        photo = originals[number % 2]
        top, left = rng.integers(photo.shape[0] - 300), rng.integers(photo.shape[1] - 400)
        crop = np.ascontiguousarray(photo[top : top + 300, left : left + 400, ::-1])
        encoded.append(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return encoded


def house_numbers(count: int, input_dir: Path) -> list[bytes]:
    """Return `count` image files of input/svhn/, or PNG crops of photos if it does not exist."""
    if (input_dir / "svhn").is_dir():
        files = InputFiles(input_dir / "svhn")
        paths = files.images("mchar_train")[:count]
        return [read_location(files.located[path]) for path in paths]
    crops = []
    for data in photos(count):
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
        assert photo is not None
        crops.append(cv2.resize(photo, (100, 60)))
    return [cv2.imencode(".png", crop)[1].tobytes() for crop in crops]


def seconds_of(run: Callable[[], None]) -> float:
    """Return the CPU seconds of a call, in this process and its children."""
    started = cpu_seconds()
    run()
    return cpu_seconds() - started


def candidates(files: list[Path], images: np.ndarray, size: tuple[int, int]) -> dict[str, Callable[[], None]]:
    """Return the loaders to compare; each call reads every image once."""
    normalise = Normalise(MEAN, STD, size[1])
    plain = Loader(
        images=images, rows=np.arange(len(images)), targets=np.zeros((len(images), 1), np.int64), image_size=size,
        batch_size=64, hflip_ok=True,
    )  # fmt: skip
    augmented = replace(plain, policy=POLICY)

    def textbook(num_workers: int) -> Callable[[], None]:
        # Workers are forked in each call and end with it, as in each epoch of a DataLoader.
        loader = DataLoader(Textbook(files, size), batch_size=64, shuffle=True, num_workers=num_workers)

        def epoch() -> None:
            for _ in loader:
                pass

        return epoch

    def ours() -> None:
        for batch in augmented.epoch(0):
            normalise(batch["image"])

    def plain_epoch() -> None:
        for _ in plain.epoch(0):
            pass

    def bare() -> None:
        order = np.arange(len(images))
        for start in range(0, len(images), 64):
            images[order[start : start + 64]]

    return {
        "textbook, 0 workers": textbook(0), "textbook, 2 workers": textbook(2), "ours": ours,
        "ours, unchanged uint8": plain_epoch, "bare gather": bare,
    }  # fmt: skip


def _by_round(ratios: list[float]) -> str:
    return with_range(ratios, ".1f")


def main(config: LoaderBenchConfig) -> None:
    """Print a Markdown table of CPU microseconds per image, and the median (min-max) ratios over rounds."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as train does
    cv2.setNumThreads(0)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    print(f"{processor()}, torch {torch.__version__}, opencv {cv2.__version__}, n = {config.num_images}, "
          f"{config.rounds} rounds; CPU µs per image, median (min-max)")  # fmt: skip
    cases = [
        ("house numbers", (64, 128), house_numbers(config.num_images, config.input_dir)),
        ("photos", (128, 128), photos(config.num_images)),
        ("photos", (224, 224), photos(config.num_images)),
    ]
    for name, size, encoded in cases:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{number:06d}" for number in range(len(encoded))]
            for file, data in zip(files, encoded, strict=True):
                file.write_bytes(data)
            np.save(Path(folder) / "cache.npy", np.stack([resize(decode_image(data), size) for data in encoded]))
            images = np.load(Path(folder) / "cache.npy", mmap_mode="r")
            compared = candidates(files, images, size)
            for run in compared.values():
                run()  # warm-up
            spent = [{kind: seconds_of(run) for kind, run in compared.items()} for _ in range(config.rounds)]
        print(f"\n{name} to {size[0]}x{size[1]}\n")
        print("| loader | CPU µs per image | textbook, 0 workers / this | this / bare gather |\n|---|---|---|---|")
        for kind in compared:
            values = sorted(1e6 * each[kind] / len(encoded) for each in spent)
            times = [each["textbook, 0 workers"] / max(1e-9, each[kind]) for each in spent]
            floors = [each[kind] / max(1e-9, each["bare gather"]) for each in spent]
            print(f"| {kind} | {with_range(values, '.1f')} | {_by_round(times)} "
                  f"| {_by_round(floors)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    started = time.perf_counter()
    cli.run(main, LoaderBenchConfig, __doc__)
    print(f"\n{time.perf_counter() - started:.0f} s")
