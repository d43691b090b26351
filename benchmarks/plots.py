"""Plot benchmark results: score against seconds, and time and memory against the number of images.

    python -m benchmarks.plots          # benchmarks/race/*.json and benchmarks/growth.json to PNGs next to them

Needs matplotlib (requirements-dev.txt).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from src.core import cli
from src.core.errors import InputError

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class PlotsConfig:
    """Where the results are."""

    folder: Path = FOLDER


def draw_race(path: Path) -> None:
    """Plot the curve of each seed of a race, one colour per recipe."""
    results = json.loads(path.read_text())
    figure, axes = plt.subplots(figsize=(8, 5))
    for number, (name, curves) in enumerate(results["curves"].items()):
        for index, curve in enumerate(curves):
            seconds, scores = zip(*curve, strict=True)
            label = name if index == 0 else None
            axes.plot(seconds, scores, "o-", color=f"C{number}", label=label, markersize=4, alpha=1 - 0.3 * index)
    axes.set(xlabel="seconds of training, decoding included", ylabel="score on the organiser's validation set",
             title=f"{path.stem}: {results['processor']}, torch {results['torch']}", xlim=(0, None))  # fmt: skip
    _finish(figure, axes, path)


def draw_growth(path: Path) -> None:
    """Plot seconds and peak memory of each command against the number of images."""
    results = json.loads(path.read_text())
    sizes = [int(size) for size in results["sizes"]]
    figure, both = plt.subplots(1, 2, figsize=(11, 4.5))
    for index, label in enumerate(("seconds", "peak memory, MiB")):
        for stage in results["sizes"][str(sizes[0])]:
            both[index].plot(sizes, [results["sizes"][str(size)][stage][index] for size in sizes], "o-", label=stage)
        both[index].set(xscale="log", yscale="log", xlabel="labelled images, and as many test images", ylabel=label)
    both[0].plot(sizes[-2:], [sizes[-2] / 1000, sizes[-1] / 1000], ":", color="grey", label="1 ms per image")
    figure.suptitle(f"24x24 images; {results['processor']}")
    _finish(figure, both[0], path)


def _finish(figure: plt.Figure, axes: plt.Axes, path: Path) -> None:
    axes.legend()
    for each in figure.axes:
        each.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=90)
    plt.close(figure)
    print(path.with_suffix(".png"))


def main(config: PlotsConfig) -> None:
    """Plot all results. Raises InputError if there are none."""
    races = sorted((config.folder / "race").glob("*.json"))
    growth = config.folder / "growth.json"
    for path in races:
        draw_race(path)
    if growth.is_file():
        draw_growth(growth)
    elif not races:
        raise InputError(f"{config.folder}: no results; run benchmarks.race or benchmarks.growth first")


if __name__ == "__main__":
    cli.run(main, PlotsConfig, __doc__)
