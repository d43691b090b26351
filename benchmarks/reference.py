"""Train a reference net as published or with our recipe, score it on untouched data, and print the table.

    python -m benchmarks.reference --row resnet_mnist --way ours --seed 0
    python -m benchmarks.reference --table

A run is saved to runs/reference/<competition>/<row>-<way>-s<seed>/ with its result in reference.json. MNIST,
Fashion-MNIST and CIFAR-10 are trained on all but 1,000 images (used for the learning curve, not to select anything) and
scored once on the 10,000 test images if their labels are available; svhn and food11 are scored on the official
validation set, since their test labels are not public. --epochs shortens a training; the table says so.
"""

import csv
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from benchmarks.measuring import processor
from benchmarks.reference_rows import ROWS, Row
from src import evaluate, predict, prepare, train
from src.competitions.arrays import read_cifar_batch, read_idx
from src.competitions.registry import load_competition
from src.config import EvaluateConfig, Paths, PredictConfig, PrepareConfig, TrainConfig
from src.core import cli
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.writing import write_json
from src.models.summary import summarise
from src.runs.run import build_network, open_run


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig(Paths):
    """Which row of the table to train, and how."""

    runs_dir: Path = Path("runs/reference")
    """Separate from your own runs, since svhn and food11 are prepared with the official split here."""
    row: str = ""
    """A name in benchmarks/reference_rows.py."""
    way: Literal["published", "ours"] = "ours"
    seed: int = 0
    epochs: int | None = None
    """Fewer epochs than in the recipe; the result is labelled as shortened."""
    image_size: tuple[int, int] | None = None
    """Height and width other than in the recipe; labelled too."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of matrix products. On a CPU auto is fp32; bf16 is faster for plain convolutions if it has AMX."""
    table: bool = False
    """Print the table of all results so far."""


def known_answers(competition: str, input_dir: Path) -> dict[str, str]:
    """Return the public labels of the test set by id; {} if there are none."""
    files = InputFiles(input_dir / competition)
    names = {path.rsplit("/", 1)[-1] for path in files.found.paths}
    if competition in ("mnist", "fashion_mnist"):
        plain, dotted = "t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"
        known = [name for name in (plain, f"{plain}.gz", dotted, f"{dotted}.gz") if name in names]
        class_ids = read_idx(files, *known)[0].tolist() if known else []  # Kaggle's test set has no public labels
        return {str(number + 1): str(class_id) for number, class_id in enumerate(class_ids)}
    if competition == "cifar10" and "testLabels.csv" in names:
        table = files.table("testLabels.csv")
        return dict(zip(table["id"], table["label"], strict=True))
    if competition == "cifar10" and "test_batch" in names:
        texts = load_competition(competition).heads[0].classes
        labels = [texts[label] for label in read_cifar_batch(files, "test_batch")[1]]
        return {str(number + 1): label for number, label in enumerate(labels)}
    return {}


def _submitted(path: Path, answers: dict[str, str]) -> float:
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    return float(np.mean([answers[key] == answer for key, answer in rows]))


def _scores(common: list[str], competition: str, run: str, config: ReferenceConfig) -> dict[str, Any]:
    """Return n and the scores without and with test-time augmentation."""
    answers = known_answers(competition, config.input_dir)
    scores: dict[str, Any] = {}
    for name, flag in (("plain", "--no-tta"), ("views", "--tta")):
        flags = [*common, "--run-name", run, flag]
        if answers:
            predict.main(tyro.cli(PredictConfig, args=[*flags, "--name", f"{run}-{name}"]))
            path = config.submissions_dir / competition / f"{run}-{name}.csv"
            scores[name], scores["n"] = _submitted(path, answers), len(answers)
        else:
            found = evaluate.main(tyro.cli(EvaluateConfig, args=flags))
            scores[name], scores["n"] = found["score"], found["num_images"]
            scores[f"first head, {name}"] = next(iter(found["heads"].values()))
    return scores


def _train_seconds(log: Path) -> float:
    with open(log, newline="", encoding="utf-8") as stream:
        return sum(float(row["train_seconds"]) for row in csv.DictReader(stream))


def _train(config: ReferenceConfig, row: Row) -> None:
    run = f"{config.row}-{config.way}-s{config.seed}"
    run += f"-{config.epochs}epochs" if config.epochs else ""
    run += "-{}x{}".format(*config.image_size) if config.image_size else ""
    common = ["--competition", row.competition]
    for name in ("input_dir", "runs_dir", "submissions_dir"):
        common += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    flags = [*row.flags(config.way), "--seed", str(config.seed), "--run-name", run, "--backbone", row.backbone]
    if config.epochs:
        flags += ["--epochs", str(config.epochs)]
    if config.image_size:
        flags += ["--image-size", *map(str, config.image_size)]
    flags += ["--precision", config.precision]
    prepare.main(tyro.cli(PrepareConfig, args=[*common, *row.prepare.split()]))
    train.main(tyro.cli(TrainConfig, args=[*common, *flags]))
    scores = _scores(common, row.competition, run, config)
    paths = Paths(competition=row.competition, runs_dir=config.runs_dir)
    opened = open_run(paths, run)
    trained = opened.open_fold(0)
    model = opened.started_record.model
    costs = summarise(build_network(model).backbone, trained.image_size, len(model.mean))
    result = {
        "row": config.row,
        "way": config.way,
        "seed": config.seed,
        "epochs": trained.result.epochs,
        "full_epochs": row.epochs(config.way),
        "image_size": trained.image_size,
        "precision": config.precision,
        **scores,
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
        "minutes": trained.result.seconds / 60,
        "train_seconds": _train_seconds(trained.paths.log),  # without validation, as in speed records
        "hardware": f"{processor()}, {torch.get_num_threads()} threads, GPU {trained.record.versions['gpu']}",
        "torch": torch.__version__,
    }
    write_json(opened.folder / "reference.json", result)
    print(json.dumps(result))


def _mean(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _print_table(config: ReferenceConfig) -> None:
    results: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(config.runs_dir.glob("*/*/reference.json")):
        result = json.loads(path.read_text())
        results[result["row"], result["way"], result["epochs"], tuple(result["image_size"])].append(result)
    columns = [
        "row",
        "published",
        "way",
        "epochs",
        "size",
        "plain",
        "views",
        "seeds",
        "n",
        "parameters",
        "multiply-adds",
        "minutes",
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in ROWS:
        for (row, way, epochs, size), group in results.items():
            if row == name:
                one, full = group[0], group[0]["full_epochs"]
                cells = [
                    row, ROWS[row].figure, way, f"{epochs} of {full}, shortened" if epochs < full else epochs,
                    f"{size[0]}x{size[1]}",
                    _mean([result["plain"] for result in group]), _mean([result["views"] for result in group]),
                    len(group), f"{one['n']:,}", f"{one['parameters']:,}", f"{one['multiply_adds'] / 1e6:,.1f} M",
                    f"{np.mean([result['minutes'] for result in group]):.1f}",
                ]  # fmt: skip
                print("| " + " | ".join(map(str, cells)) + " |")
    print("\n" + "; ".join(sorted({result["hardware"] for group in results.values() for result in group})))


def main(config: ReferenceConfig) -> None:
    """Train and score a row, or print the table. Raises InputError for an unknown row."""
    if config.table:
        _print_table(config)
        return
    if config.row not in ROWS:
        raise InputError(f"--row {config.row or '(none)'}: choose one of {', '.join(ROWS)}; or --table")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    _train(config, ROWS[config.row])


if __name__ == "__main__":
    cli.run(main, ReferenceConfig, __doc__)
