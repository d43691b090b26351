"""Other answers and metrics on real images: what is promised out of fold, and what hidden answers say.

    python -m benchmarks.answers --data input --weights tf_efficientnet_lite0.safetensors     # half an hour on 2 cores

Needs mnist/, fashion_mnist/, food11/ and cifar10/ as input/ has them. Each row is a competition made of them: digits
and clothes as probabilities with log loss, photos of dishes as several labels an image with strong imbalance, CIFAR-10
as a folder for each class. Test images are those whose answers the data holds, and are not used otherwise.
"""

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.measuring import processor
from src.competitions.decision import Rule
from src.competitions.registry import load_competition
from src.config import Paths
from src.core import cli
from src.data.prepared import open_prepared
from src.data.weighting import LARGEST_RATIO
from src.metrics import metric_of, score_of

FOOD = ("Bread", "Dairy", "Dessert", "Egg", "Fried", "Meat", "Noodles", "Rice", "Seafood", "Soup", "Vegetable")
HELPERS = {
    "table": "from src.competitions.tables import csv_competition as make",
    "folder": "from src.competitions.folders import folder_competition as make",
}


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """Where the data and the pretrained weights are."""

    data: Path = Path("input")
    weights: Path = Path("tf_efficientnet_lite0.safetensors")
    rows: tuple[str, ...] = ("digits", "clothes", "dishes", "folders")
    count: int = 6000
    """Training images of each row."""


def _idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def _probabilities(data: Path, folder: Path, count: int) -> tuple[str, np.ndarray]:
    """Write MNIST-like images, and a sample with a column for each class, shuffled; return the hidden answers."""
    answers = {}
    for part, most in (("train", count), ("t10k", 2000)):
        images = _idx(data / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        answers[part] = _idx(data / f"{part}-labels-idx1-ubyte.gz", 8)[:most].astype(str)
        for number in range(most):
            _write(folder / ("train" if part == "train" else "test") / f"{part}{number}.png", images[number])
    _table(folder / "train.csv", ["id", "label"], [[f"train{i}", label] for i, label in enumerate(answers["train"])])
    columns = [str(label) for label in np.random.default_rng(0).permutation(10)]
    rows = [[f"t10k{i}", *["0.1"] * 10] for i in range(len(answers["t10k"]))]
    _table(folder / "sample_submission.csv", ["id", *columns], rows)
    options = (
        'id_column="id", label_column="label", answer="probabilities", metric="log_loss", hflip_ok=False, channels=1, '
        "image_size=(28, 28)"
    )
    return options, np.array([columns.index(label) for label in answers["t10k"]])[:, None]


def _dishes(data: Path, folder: Path, count: int) -> tuple[str, np.ndarray]:
    """Write pictures of one to three photos side by side, rare classes up to 30 times rarer; return hidden answers."""
    rng, targets = np.random.default_rng(0), {}
    rarity = np.geomspace(1, 1 / 30, len(FOOD))
    with zipfile.ZipFile(data / "food-11.zip") as archive:
        for part, given, most in (("training", "train", count // 2), ("validation", "test", 1000)):
            names = sorted(name for name in archive.namelist() if f"{part}/" in name and name.endswith(".jpg"))
            of_class = [[name for name in names if Path(name).name.startswith(f"{c}_")] for c in range(len(FOOD))]
            targets[given] = np.zeros((most, len(FOOD)), np.int64)
            for number in range(most):
                chosen = rng.choice(len(FOOD), rng.integers(1, 4), p=rarity / rarity.sum(), replace=False)
                photos = [archive.read(of_class[c][rng.integers(len(of_class[c]))]) for c in chosen]
                decoded = [cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR) for photo in photos]
                targets[given][number, chosen] = 1
                _write(
                    folder / given / f"{number}.png",
                    np.hstack([cv2.resize(one, (64, 64)) for one in decoded if one is not None]),
                )
    rows = [[str(i), " ".join(FOOD[c] for c in np.flatnonzero(row))] for i, row in enumerate(targets["train"])]
    _table(folder / "train.csv", ["id", "dishes"], rows)
    _table(folder / "sample_submission.csv", ["id", "dishes"], [[str(i), FOOD[0]] for i in range(len(targets["test"]))])
    options = (
        'id_column="id", label_column="dishes", kind="labels", metric="macro_f1", resize="letterbox", '
        "image_size=(96, 96)"
    )
    return options, targets["test"][:, np.argsort(FOOD)]


def _folders(data: Path, folder: Path, count: int) -> tuple[str, np.ndarray]:
    """Write CIFAR-10 as a folder for each class; return the hidden answers of 2,000 test images."""
    with zipfile.ZipFile(data / "cifar-10.zip") as archive:
        names = {Path(name).name: name for name in archive.namelist() if name.endswith(("Labels.csv",))}
        tables = {name: pd.read_csv(io.BytesIO(archive.read(path)), dtype=str) for name, path in names.items()}
        images = {"/".join(Path(path).parts[-2:]): path for path in archive.namelist()}

        def read(part: str, key: str) -> bytes:
            return archive.read(
                next(images[f"{part}/{key}{end}"] for end in (".jpg", ".png") if f"{part}/{key}{end}" in images)
            )

        for key, label in tables["trainLabels.csv"].to_numpy()[:count]:
            path = folder / "train" / label / f"{key}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read("train", key))
        hidden = tables["testLabels.csv"].to_numpy()[:2000]
        (folder / "test").mkdir()
        for key, _ in hidden:
            (folder / "test" / f"{key}.jpg").write_bytes(read("test", key))
    _table(folder / "sample_submission.csv", ["id", "label"], [[key, "cat"] for key, _ in hidden])
    classes = sorted(set(tables["trainLabels.csv"]["label"]))
    return "image_size=(64, 64)", np.array([classes.index(label) for _, label in hidden])[:, None]


PROBE = ["--freeze-backbone", "--epochs", "30", "--lr", "0.003"]
SMALL = ["--no-pretrained", "--backbone", "string_cnn", "--epochs", "8", "--label-smoothing", "0"]
ROWS: dict[str, tuple[Callable[[Path, Path, int], tuple[str, np.ndarray]], str, str, dict[str, list[str]]]] = {
    "digits": (_probabilities, "mnist", "table", {"string_cnn, 8 epochs": SMALL}),
    "clothes": (_probabilities, "fashion_mnist", "table", {"string_cnn, 8 epochs": [*SMALL, "--augment.hflip", "0"]}),
    "dishes": (
        _dishes, "food11", "table",
        {"linear probe": PROBE, "--class-weights": [*PROBE, "--class-weights"],
         "--sampler balanced": [*PROBE, "--sampler", "balanced"], "--loss focal": [*PROBE, "--loss", "focal"]},
    ),
    "folders": (_folders, "cifar10", "folder", {"linear probe": PROBE}),
}  # fmt: skip


def _run(folder: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _hidden(folder: Path, name: str, run: str, file: str, target: np.ndarray) -> float:
    """Return the score of what was handed in: its answers, or its probabilities."""
    note = json.loads((folder / "submissions" / name / f"{run}.json").read_text())
    with np.load(folder / "submissions" / name / f"{run}.npz") as kept:
        predicted = kept["probabilities"]

    competition = open_prepared(
        Paths(competition=file, input_dir=folder / "input", runs_dir=folder / "runs")
    ).competition
    rule = Rule(cuts=tuple(tuple(note["rule"].get(head.name, ())) for head in competition.heads))
    return score_of(predicted, target, competition, rule if any(rule.cuts) else None)


def main(config: AnswersConfig) -> None:
    """Print a table of each row and way."""
    print(
        f"{processor()}; {config.count:,} training images (dishes: half), rarest class at most {LARGEST_RATIO:g} times"
    )
    print("| data | way | metric | out of fold (95%) | without fitted cuts | hidden | inside |\n" + "|---" * 7 + "|")
    for row in config.rows:
        make, source, helper, ways = ROWS[row]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "input" / row).mkdir(parents=True)
            options, target = make((config.data / source).resolve(), folder / "input" / row, config.count)
            file = folder / f"{row}.py"
            file.write_text(f'{HELPERS[helper]}\n\nCOMPETITION = make(name="{row}", {options})\n')
            shutil.copytree(Path("src"), folder / "src")
            _run(folder, "src.prepare", "--competition", str(file), "--num-folds", "3")
            for number, (way, flags) in enumerate(ways.items()):
                run = f"run{number}"
                given = [] if "--no-pretrained" in flags else ["--weights", str(config.weights.resolve())]
                _run(folder, "src.train", "--competition", str(file), "--run-name", run, *flags, *given)
                _run(folder, "src.evaluate", "--competition", str(file), "--run-name", run)
                _run(folder, "src.predict", "--competition", str(file), "--run-name", run)
                scores = json.loads((folder / "runs" / row / run / "evaluation" / "scores.json").read_text())
                hidden, (low, high) = _hidden(folder, row, run, str(file), target), scores["interval_95"]
                name = metric_of(load_competition(str(file))).name
                print(
                    f"| {row} | {way} | {name} | {scores['score']:.4f} ({low:.4f}–{high:.4f}) | "
                    f"{scores['plain_score']:.4f} | {hidden:.4f} | {'yes' if low <= hidden <= high else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    cli.run(main, AnswersConfig, __doc__)
