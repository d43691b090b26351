"""Time to a given score: the street-view course's recipe, timm's stock recipe, and ours, on the same data and cores.

    python -m benchmarks.race --which svhn --weights tf_efficientnet_lite0.safetensors
    python -m benchmarks.race --which food11 --weights tf_efficientnet_lite0.safetensors

svhn: the course's loader (PIL, torchvision, DataLoader), Adam at 1e-3, batch 40, 10 epochs, with its ResNet-18 and six
heads from scratch (its ImageNet weights are not available here), and with the same pretrained network as ours.
food11: timm's create_dataset, create_loader, create_optimizer_v2 and create_scheduler_v2 with train.py's defaults (SGD,
lr 0.05, momentum 0.9, weight decay 2e-5, cosine after 5 epochs of warm-up, crops of 8-100%, flips, colour 0.4,
label smoothing 0.1), batch 128, 10 epochs, the same pretrained network, 64x64, the size of the photos.
Ours: src.prepare and src.train with the default flags and few epochs; with flags chosen for speed; with progressive
resizing; and with a linear probe.

All score the official validation set after each epoch. Validation time and the start of Python are excluded; our
decoding is included. All run in one process, so the others benefit from src.train's malloc settings too. Curves are
written to <out>/<which>.json after each run; with --only, the other curves in the file are kept.
"""

import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
import tyro
from PIL import Image
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measuring import processor
from src import prepare, train
from src.competitions.svhn import COMPETITION as STREET
from src.config import PrepareConfig, TrainConfig
from src.core import cli
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import read_location

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Point = tuple[float, float]  # seconds of training, score
NETWORK = "tf_efficientnet_lite0"
QUICK = {  # tuned on 600 of svhn's training images, training on the rest: see results/race.md
    "svhn": "--epochs 4 --image-size 40 80 --batch-size 32 --lr 4e-3 --augment.concat 0",
}


@dataclass(frozen=True, kw_only=True)
class RaceConfig:
    """What to race."""

    which: Literal["svhn", "food11"] = "svhn"
    weights: Path
    """ImageNet weights of tf_efficientnet_lite0, in timm's naming."""
    input_dir: Path = Path("input")
    epochs: int = 10
    """Epochs of the other recipes."""
    our_epochs: int = 6
    seeds: tuple[int, ...] = (0,)
    only: tuple[str, ...] = ()
    """Names of the recipes to run, as printed; default: all."""
    out: Path = Path("benchmarks/race")


class StreetView(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The course's data set: each item opens, resizes and augments a file."""

    def __init__(self, table: Any, files: InputFiles, folder: Path, train: bool) -> None:
        self.paths, self.targets = [], table[STREET.targets].to_numpy()
        for path in table["image_path"]:
            file = folder / path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(read_location(files.located[path]))
            self.paths.append(file)
        augmentations = [
            transforms.RandomCrop((60, 120)),
            transforms.ColorJitter(0.3, 0.3, 0.2),
            transforms.RandomRotation(5),
        ]
        self.transform = transforms.Compose(
            [transforms.Resize((64, 128)), *(augmentations if train else [transforms.CenterCrop((60, 120))]),
             transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(Image.open(self.paths[row]).convert("RGB")), torch.from_numpy(self.targets[row])


@torch.no_grad()
def _score(network: nn.Module, batches: Iterable[Any], num_heads: int) -> float:
    network.eval()
    right: list[bool] = []
    for images, target in batches:
        found = network(images).unflatten(1, (num_heads, -1)).argmax(dim=2)
        right += (found == target.view(len(target), num_heads)).all(dim=1).tolist()
    network.train()
    return float(np.mean(right))


def _epochs(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loaders: tuple[Iterable[Any], Iterable[Any]],
    num_heads: int,
    epochs: int,
    at_epoch: Callable[[int], object],
    smoothing: float = 0.0,
) -> list[Point]:
    """Train with a plain loop; return (training seconds so far, score) after each epoch."""
    spent, curve = 0.0, []
    for epoch in range(epochs):
        started = time.perf_counter()
        for images, target in loaders[0]:
            logits = network(images).unflatten(1, (num_heads, -1)).transpose(1, 2)  # (B, classes, heads)
            target = target.view(len(target), num_heads)
            loss = nn.functional.cross_entropy(logits, target, label_smoothing=smoothing) * num_heads
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        at_epoch(epoch + 1)
        spent += time.perf_counter() - started
        curve.append((spent, _score(network, loaders[1], num_heads)))
        print(f"  {curve[-1][0]:.0f} s: {curve[-1][1]:.4f}", flush=True)
    return curve


def _pretrained(config: RaceConfig, num_classes: int) -> nn.Module:
    overlay = {"file": str(config.weights)}
    network: nn.Module = timm.create_model(
        NETWORK, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes
    )
    return network


def course(config: RaceConfig, seed: int, pretrained: bool) -> list[Point]:
    """Run the street-view course's recipe."""
    torch.manual_seed(seed)
    files = InputFiles(config.input_dir / "svhn")
    table = STREET.read_train(files)
    with tempfile.TemporaryDirectory() as folder:
        train_set, val_set = (
            StreetView(table[table["split"] == split], files, Path(folder), split == "train")
            for split in ("train", "val")
        )
        loaders = (
            DataLoader(train_set, batch_size=40, shuffle=True, num_workers=2),
            DataLoader(val_set, batch_size=40, num_workers=2),
        )
        network = _pretrained(config, 66) if pretrained else timm.create_model("resnet18", num_classes=66)
        return _epochs(network, torch.optim.Adam(network.parameters(), 1e-3), loaders, 6, config.epochs, lambda _: 0)


def stock(config: RaceConfig, seed: int) -> list[Point]:
    """Run timm's stock recipe on food11."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("training", "validation"):
            files = InputFiles(config.input_dir / "food11")
            for path in files.images(name):
                file = Path(folder, name, Path(path).name.split("_")[0].zfill(2), Path(path).name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(read_location(files.located[path]))
        loaders = tuple(
            create_loader(
                create_dataset("folder", root=str(Path(folder, name))),
                input_size=(3, 64, 64),
                batch_size=128,
                is_training=name == "training",
                use_prefetcher=False,
                no_aug=False,
                color_jitter=0.4,
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
                num_workers=2,
                crop_pct=1.0,
                interpolation="random" if name == "training" else "bicubic",
                device=torch.device("cpu"),
            )
            for name in ("training", "validation")
        )
        network = _pretrained(config, 11)
        optimizer = create_optimizer_v2(network, "sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
        scheduler, _ = create_scheduler_v2(
            optimizer, "cosine", num_epochs=config.epochs, warmup_epochs=5, warmup_lr=1e-5
        )
        return _epochs(network, optimizer, (loaders[0], loaders[1]), 1, config.epochs, scheduler.step, 0.1)


def ours(config: RaceConfig, seed: int, *more: str) -> list[Point]:
    """Run src.prepare and src.train, and read the curve from log.csv; for a linear probe return only its last point."""
    with tempfile.TemporaryDirectory() as folder:
        common = ["--competition", config.which, "--input-dir", str(config.input_dir), "--runs-dir", folder]
        size = ["--image-size", "64", "64"] if config.which == "food11" else []
        started = time.perf_counter()
        prepare.main(tyro.cli(PrepareConfig, args=[*common, "--split", "official", *size]))
        prepared = time.perf_counter() - started
        flags = ["--weights", str(config.weights), "--epochs", str(config.our_epochs), "--seed", str(seed)]
        train.main(tyro.cli(TrainConfig, args=[*common, *flags, *more]))
        total = time.perf_counter() - started
        with open(Path(folder, config.which, "baseline", "fold0", "log.csv"), newline="") as stream:
            rows = list(csv.DictReader(stream))
    if "--freeze-backbone" in more:  # most of the time is spent on features, before the first epoch
        return [(total, float(rows[-1]["score"]))]
    seconds = prepared + np.cumsum([float(row["train_seconds"]) for row in rows])
    return [(float(spent), float(row["score"])) for spent, row in zip(seconds, rows, strict=True)]


def seconds_to(curve: list[Point], score: float) -> float:
    """Return the seconds until a curve first reaches `score`; infinity if it never does."""
    return next((spent for spent, reached in curve if reached >= score), float("inf"))


def main(config: RaceConfig) -> None:
    """Run the recipes, write the curves and print the times."""
    runners: dict[str, Callable[[int], list[Point]]] = {
        "ours": lambda seed: ours(config, seed),
        "ours, growing images": lambda seed: ours(config, seed, "--progressive-resize", "0.5"),
        "ours, frozen backbone": lambda seed: ours(config, seed, "--freeze-backbone", "--epochs", "20"),
    }
    if config.which in QUICK:
        runners["ours, quick"] = lambda seed: ours(config, seed, *QUICK[config.which].split())
    if config.which == "svhn":
        runners["course, ResNet-18 from scratch"] = lambda seed: course(config, seed, pretrained=False)
        runners["course, our pretrained network"] = lambda seed: course(config, seed, pretrained=True)
    else:
        runners["timm's stock recipe"] = lambda seed: stock(config, seed)
    unknown = set(config.only) - set(runners)
    if unknown:
        raise InputError(f"--only {min(unknown)!r}: not one of {', '.join(map(repr, runners))}")
    file = config.out / f"{config.which}.json"
    curves: dict[str, list[list[Point]]] = {}
    if config.only and file.is_file():
        curves = json.loads(file.read_text())["curves"]
    selected = {name: run for name, run in runners.items() if name in config.only or not config.only}
    curves |= {name: [] for name in selected}
    for seed in config.seeds:
        for name, run in selected.items():
            print(f"{name}, seed {seed}", flush=True)
            curves[name].append(run(seed))
            config.out.mkdir(parents=True, exist_ok=True)
            results = {"processor": processor(), "torch": torch.__version__, "curves": curves}
            file.write_text(json.dumps(results))
    print(f"\n{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, timm {timm.__version__}")
    for name, by_seed in curves.items():
        for index, curve in enumerate(by_seed):
            spent, score = curve[-1]
            print(f"{name}, seed {config.seeds[index]}: {score:.4f} after {spent:.0f} s", end="")
            for way in () if name.startswith("ours") else sorted(curves.keys() & {"ours", "ours, quick"}):
                mine = seconds_to(curves[way][index], score)
                comparison = (
                    f"reached it in {mine:.0f} s ({spent / mine:.1f} times faster)" if mine < spent else "not faster"
                )
                print(f"; {way} {comparison}", end="")
            print()


if __name__ == "__main__":
    cli.run(main, RaceConfig, __doc__)
