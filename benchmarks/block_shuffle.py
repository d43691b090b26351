"""Shuffling in blocks against shuffling at large: the same trainings, paired by seed.

    python -m benchmarks.block_shuffle --weights tf_efficientnet_lite0.safetensors        # about 30 minutes on one core

Trains on svhn's official split. A block is shrunk to --rows images, so that a window of 32 blocks holds a small part of
the few images there are, as the window of 32 blocks of 4 MiB does in a cache larger than memory. "sorted": the files
are named after their labels, so the label table is in the order of the labels. prepare writes its rows in a random
order; with --no-mixed it does not, and the images of a block have the same label.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import processor
from src import prepare, train
from src.competitions.svhn import COMPETITION as STREET
from src.config import Paths, PrepareConfig, TrainConfig
from src.core import cli
from src.core.reading import InputFiles
from src.core.zips import read_location
from src.data import cache, pixels
from src.data.in_blocks import WINDOW
from src.runs.run import open_run
from src.training import loading

KINDS = {"at large": ("as it is", False), "in blocks": ("as it is", True), "in blocks, sorted": ("sorted", True)}


def write_sorted(source: Path, folder: Path) -> None:
    """Write svhn's files again, with names that begin with the label: prepare lists images by name."""
    files = InputFiles(source / "svhn", STREET.source)
    STREET.read_train(files)  # which locates them
    for split in ("train", "val"):
        name, labels = f"mchar_{split}", {}
        (folder / "svhn" / name).mkdir(parents=True)
        for image, entry in json.loads(read_location(files.find(f"{name}.json"))).items():
            new = f"{''.join(map(str, entry['label']))}_{image}"
            labels[new] = entry
            (folder / "svhn" / name / new).write_bytes(read_location(files.located[f"{name}/{image}"]))
        (folder / "svhn" / f"{name}.json").write_text(json.dumps(labels))
    for path in (source / "svhn").glob("*"):
        if "test" in path.name or "sample" in path.name:
            shutil.copy(path, folder / "svhn" / path.name)


@dataclass(frozen=True, kw_only=True)
class BlockShuffleConfig:
    """What to train."""

    weights: Path
    """ImageNet weights of tf_efficientnet_lite0, in timm's naming."""
    input_dir: Path = Path("input")
    rows: int = 8
    """Images of a block."""
    image_size: tuple[int, int] = (32, 64)
    epochs: int = 5
    batch_size: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    mixed: bool = True
    """Whether prepare writes the rows in a random order."""


def _score(config: BlockShuffleConfig, folder: Path, in_blocks: bool, seed: int) -> float:
    """Train on folder/input; return the score of the plain images."""
    loading.MAX_MEMORY_SHARE = 0.0 if in_blocks else 1e9
    name = f"{'blocks' if in_blocks else 'large'}{seed}"
    train.main(
        TrainConfig(
            input_dir=folder / "input",
            runs_dir=folder / "runs",
            run_name=name,
            weights=config.weights,
            image_size=config.image_size,
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=seed,
        )
    )
    return open_run(Paths(runs_dir=folder / "runs"), name).trained()[0].result.score


def _line(name: str, scores: list[float], others: list[float]) -> str:
    differences = np.subtract(scores, others)
    values = ", ".join(f"{score:.3f}" for score in scores)
    text = f"| {name} | {values} | {np.mean(scores):.4f} |"
    if scores is others:
        return f"{text} – | – |"
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else float("nan")
    return f"{text} {', '.join(f'{value:+.3f}' for value in differences)} | {differences.mean():+.4f} ± {error:.4f} |"


def main(config: BlockShuffleConfig) -> None:
    """Print a Markdown table."""
    height, width = config.image_size
    if not config.mixed:
        vars(cache)["random_order"] = np.arange
    pixels.BLOCK = config.rows * height * width * 3
    scores: dict[str, list[float]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory() as name:
        for order in ("as it is", "sorted"):
            folder = Path(name) / order
            folder.mkdir()
            if order == "sorted":
                write_sorted(config.input_dir, folder / "input")
            else:
                (folder / "input").symlink_to(config.input_dir.resolve())
            prepare.main(
                PrepareConfig(
                    input_dir=folder / "input", runs_dir=folder / "runs", image_size=config.image_size, split="official"
                )
            )
        for seed in config.seeds:
            for kind, (order, in_blocks) in KINDS.items():
                scores[kind].append(_score(config, Path(name) / order, in_blocks, seed))
                print(f"seed {seed}, {kind}: {scores[kind][-1]:.4f}", flush=True)
    print(
        f"\n{processor()}, torch {torch.__version__}; tf_efficientnet_lite0, {config.epochs} epochs at {height}x{width}"
    )
    print(f"batch {config.batch_size}; blocks of {config.rows} images, a window of {WINDOW * config.rows}")
    print("\n| shuffled | scores by seed | mean | difference by seed | mean ± standard error |\n|---|---|---|---|---|")
    for kind, found in scores.items():
        print(_line(kind, found, scores["at large"]))


if __name__ == "__main__":
    cli.run(main, BlockShuffleConfig, __doc__)
