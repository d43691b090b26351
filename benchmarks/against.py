"""Loader and training step of this working copy against those of another commit, side by side: A B A B.

    python -m benchmarks.against --commit 0e5205c                 # about 15 minutes on an idle machine with 2 cores
    python -m benchmarks.against --commit HEAD~1 --rounds 2

Each round runs both commits' own `benchmarks.loader` (CPU µs per image, augmented and unchanged) and `src.bench`
(images/s of loader, step, both, inference), each in a process of its own. Prints the ratio of this copy's cost to the
other commit's by round: 1.02 is 2% slower. Needs git and input/svhn/.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measuring import processor, with_range
from src.core import cli

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class AgainstConfig:
    """What to compare with, and how often."""

    commit: str = "HEAD~1"
    rounds: int = 4
    backbone: str = "tf_efficientnet_lite0"
    num_images: int = 500
    """Images of the loader's benchmark."""
    steps: int = 12
    """Steps of src.bench."""


def _output(folder: Path, module: str, *flags: str) -> str:
    command = [sys.executable, "-m", module, *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def costs(folder: Path, config: AgainstConfig) -> dict[str, float]:
    """Return what one round costs in a folder: µs of CPU per image of the loaders, seconds per image of the rest."""
    found: dict[str, float] = {}
    numbers = ("--num-images", str(config.num_images), "--rounds", "2", "--input-dir", str(ROOT / "input"))
    size = ""
    for line in _output(folder, "benchmarks.loader", *numbers).splitlines():
        size = line.rsplit(" ", 1)[1] if re.search(r" to \d+x\d+$", line) else size
        row = re.match(r"\| (ours|ours, unchanged uint8) \| ([\d.]+)", line)
        if row:
            found[f"{row[1]}, {size}"] = float(row[2])
    flags = (
        "--no-pretrained",
        "--backbone",
        config.backbone,
        "--image-size",
        "64",
        "128",
        "--steps",
        str(config.steps),
    )
    for kind, rate in re.findall(
        r"^(loader|step|both|inference) +([\d,]+) ", _output(folder, "src.bench", *flags), re.M
    ):
        found[f"src.bench {kind}"] = 1 / float(rate.replace(",", ""))
    return found


def main(config: AgainstConfig) -> None:
    """Print a Markdown table. Raises CalledProcessError if git does not know the commit."""
    ratios: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--detach", str(other), config.commit], cwd=ROOT, check=True)
        try:
            for _ in range(config.rounds):
                theirs, ours = costs(other, config), costs(ROOT, config)
                for name in ours:
                    ratios[name].append(ours[name] / theirs[name])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)
    print(
        f"{processor()}, torch {torch.__version__}, {config.rounds} rounds, cost against {config.commit} (1: the same)"
    )
    print("\n| what | median (min-max) by round |\n|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {with_range(values, '.3f')} |")


if __name__ == "__main__":
    cli.run(main, AgainstConfig, __doc__)
