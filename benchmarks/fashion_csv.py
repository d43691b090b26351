"""Fashion-MNIST in the commonest layout of a competition: train.csv, zips of PNG images, sample_submission.csv.

    python -m benchmarks.fashion_csv --source input/fashion_mnist        (writes input/fashion_csv/)
    python -m src.auto --competition benchmarks/fashion_csv.py --minutes 10 --weights ...

What a stranger to Podium would write: a competition file of ten lines, which says nothing of the kind of images.
"""

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.competitions.arrays import read_idx
from src.competitions.fashion_mnist import NAMES
from src.competitions.tables import csv_competition
from src.core import cli
from src.core.reading import InputFiles

COMPETITION = csv_competition(name="fashion_csv", id_column="image_id", label_column="label", image_size=(28, 28))


@dataclass(frozen=True, kw_only=True)
class FashionConfig:
    """From where to where."""

    source: Path = Path("input/fashion_mnist")
    """Folder of the four idx files."""
    out: Path = Path("input/fashion_csv")


def _write_zip(path: Path, images: np.ndarray) -> list[str]:
    """Write a zip of (N, H, W) grey images as PNG files; return their names without extension."""
    names = [f"{number:05d}" for number in range(len(images))]
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in zip(names, images, strict=True):
            archive.writestr(f"{path.stem}/{name}.png", cv2.imencode(".png", image)[1].tobytes())
    return names


def _write_table(path: Path, names: list[str], labels: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image_id", "label"), *zip(names, labels, strict=True)])


def main(config: FashionConfig) -> None:
    """Write the competition's files. Raises InputError for missing or damaged idx files."""
    files = InputFiles(config.source)
    images, test = (read_idx(files, f"{part}-images-idx3-ubyte.gz")[0] for part in ("train", "t10k"))
    labels = read_idx(files, "train-labels-idx1-ubyte.gz")[0]
    config.out.mkdir(parents=True, exist_ok=True)
    _write_table(
        config.out / "train.csv", _write_zip(config.out / "train.zip", images), [NAMES[label] for label in labels]
    )
    names = _write_zip(config.out / "test.zip", test)
    _write_table(config.out / "sample_submission.csv", names, [NAMES[0]] * len(names))
    print(f"{len(images):,} labelled and {len(test):,} test images: {config.out}")


if __name__ == "__main__":
    cli.run(main, FashionConfig, __doc__)
