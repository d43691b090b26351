"""Reports without a training: random predictions, patterns for images, and what a report asks of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
from torch import nn

from src.competitions.spec import Competition, Head
from src.config import TrainSettings
from src.inference.ensemble import OutOfFold
from src.inference.rules import decide_out_of_fold
from src.report.intervals import interval_of
from src.report.page import Report
from src.report.scores import summary, tables
from src.report.side_by_side import Side
from src.report.suspects import suspects
from src.report.train_and_test import Comparison, answered
from src.runs.paths import FoldPaths, RunPaths

NUM_FOLDS = 3
WRONG_LABELS = 0.06  # share of labels of which the predictions are sure that they are wrong
LONG_NAMES = tuple(f"{number:02d}-{'abcdefghij' * 6}"[:60] for number in range(40))  # nowhere to break a line
DIGITS = (*"0123456789", "")
KINDS: dict[str, dict[str, Any]] = {
    "classes": {"heads": (Head(name="kind", classes=LONG_NAMES),), "columns": ("id", "kind")},
    "named": {
        "heads": (Head(name="pet", classes=("0", "1", "2")),),
        "columns": ("id", "pet"),
        "class_names": ("cat", "dog", "owl & co"),
    },
    "labels": {
        "heads": (Head(name="tags", kind="labels", classes=("rust", "scab", "frog eye", "rot")),),
        "columns": ("id", "tags"),
        "separator": "|",
        "metric": "log_loss",
    },
    "heads": {
        "heads": (
            Head(name="root", classes=("a", "b", "c", "d", "e")),
            Head(name="vowel", classes=("x", "y", "z")),
            Head(name="grade", kind="ordinal", classes=("0", "1", "2")),
        ),
        "columns": ("id",),
        "answer": "heads",
    },
    "numbers": {
        "heads": (
            Head(name="age", kind="number", scale=(40.0, 10.0)),
            Head(name="height", kind="number", scale=(70.0, 5.0)),
        ),
        "columns": ("id",),
        "answer": "heads",
        "metric": "mae",
    },
    "strings": {
        "heads": tuple(Head(name=f"digit{place}", classes=DIGITS) for place in range(1, 5)),
        "columns": ("id", "code"),
        "pad_class": 10,
        "metric": "string_accuracy",
    },
}


class Drawn:
    """Stands for the images of a cache: smooth patterns that repeat."""

    def __init__(self, count: int, size: tuple[int, int] = (48, 64)) -> None:
        self.shape, self.dtype = (count, *size, 3), np.dtype(np.uint8)
        coarse = np.random.default_rng(0).integers(0, 256, (97, 6, 8, 3)).astype(np.uint8)
        self.patterns = np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        found: np.ndarray = self.patterns[np.asarray(rows) % len(self.patterns)]
        return found


def made_competition(kind: str, **options: Any) -> Competition:
    """Return a competition of one of KINDS."""
    fields: dict[str, Any] = {"name": kind, "image_size": (48, 64), "hflip_ok": True, **KINDS.get(kind, {}), **options}
    return Competition(read_train=lambda files: pd.DataFrame(), read_test=lambda files: pd.DataFrame(), **fields)


def _target(competition: Competition, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random targets (N, num_targets); strings of one character or more are padded."""
    columns: list[np.ndarray] = []
    for head in competition.heads:
        if head.kind == "number":
            columns.append(rng.normal(*head.scale, (count, 1)))
        elif head.kind == "labels":
            columns.append(rng.integers(0, 2, (count, head.num_classes)))
        else:
            columns.append(rng.integers(0, head.num_classes - (competition.pad_class is not None), (count, 1)))
    target: np.ndarray = np.concatenate(columns, axis=1).astype(competition.target_type)
    if competition.pad_class is not None:
        lengths = rng.integers(1, len(competition.heads) + 1, (count, 1))
        target[np.arange(len(competition.heads)) >= lengths] = competition.pad_class
    return target


def _predicted(competition: Competition, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return predictions (N, num_outputs) that are mostly, but not always, right."""
    parts: list[np.ndarray] = []
    for head, of in zip(competition.heads, competition.layout.split_targets(target), strict=True):
        if head.kind == "number":
            parts.append(of + rng.normal(0, 0.3 * head.scale[1], of.shape))
        elif head.kind == "labels":
            parts.append(np.clip(0.6 * of + 0.5 * rng.random(of.shape), 0.01, 0.99))
        elif head.kind == "ordinal":
            above = of > np.arange(head.num_outputs)
            parts.append(np.clip(0.5 * above + 0.6 * rng.random(above.shape), 0.01, 0.99))
        else:
            is_wrong = rng.random(len(of)) < WRONG_LABELS
            believed = np.where(is_wrong, rng.integers(0, head.num_classes, len(of)), of[:, 0])
            shares = rng.random((len(of), head.num_classes))
            shares[np.arange(len(of)), believed] += rng.uniform(0, head.num_classes, len(of))
            parts.append(shares / shares.sum(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1).astype(np.float32)


def made_oof(competition: Competition, count: int, seed: int = 0, target: np.ndarray | None = None) -> OutOfFold:
    """Return out-of-fold predictions of train/00000.png and so on, in NUM_FOLDS folds by turns."""
    rng = np.random.default_rng(seed)
    target = _target(competition, count, rng) if target is None else target
    predicted = _predicted(competition, target, rng)
    rows = np.arange(count)
    labels = pd.DataFrame({"image_path": [f"train/{row:05d}.png" for row in rows], "fold": rows % NUM_FOLDS})
    decided = decide_out_of_fold(predicted, target, competition, rows)
    return OutOfFold(
        competition=competition, labels=labels.assign(group=rows), probabilities=predicted, target=target,
        answers=decided.answers(competition), decided=decided, views=(), complete=True, optimistic=False,
    )  # fmt: skip


def made_run(folder: Path, competition: Competition, count: int, name: str = "made", **settings: Any) -> Any:
    """Return what a report asks of a run; `settings` are those of its training."""
    cache = SimpleNamespace(images=Drawn(count), rows_of=lambda paths: np.array([int(path[6:11]) for path in paths]))
    problems = pd.DataFrame(
        [("train", "train/00001.png", "duplicate", "kept in one group", "same pixels as train/00000.png")],
        columns=["split", "image_path", "problem", "action", "detail"],
    )
    prepared = SimpleNamespace(
        id="snapshot", folder=Path("runs/made/prepared"), problems=problems, cache=lambda part, size=None: cache,
        snapshot=SimpleNamespace(relabelled=None), command=lambda: "python -m src.prepare", unreadable_note=lambda: "",
    )  # fmt: skip
    model = SimpleNamespace(backbone="resnet18", image_size=(48, 64))
    started = SimpleNamespace(model=model, train=TrainSettings(**settings), weights=None, cache_size=(48, 64))
    run = SimpleNamespace(
        name=name, id="0" * 64, competition=competition, prepared=prepared, started_record=started,
        paths=RunPaths(folder=folder),
        train_command=lambda number: f"python -m src.train --fold {number}", load_network=lambda fold: nn.Identity(),
    )  # fmt: skip
    folds = [_fold(folder, number, count, started) for number in range(NUM_FOLDS)]
    run.trained = lambda chosen=None: folds
    return run


def _fold(folder: Path, number: int, count: int, started: Any) -> Any:
    """Return a trained fold, and write its log.csv."""
    paths = FoldPaths(folder=folder / f"fold{number}")
    paths.folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{1 / epoch},{epoch / 9},{0.1 / epoch},500,2" for epoch in range(1, 9)]
    paths.log.write_text("\n".join(["epoch,loss,score,lr,images_per_second,seconds", *rows, ""]))
    result = SimpleNamespace(score=0.5, epochs=8, seconds=16.0, images_per_second=500.0, weights_sha256="0" * 64)
    record = SimpleNamespace(run=started, num_val=count // NUM_FOLDS, num_train=count, versions={"torch": "2"})
    return SimpleNamespace(number=number, paths=paths, record=record, result=result)


def made_report(folder: Path, competition: Competition, count: int, seed: int = 0, **settings: Any) -> Report:
    """Return a report of `count` images."""
    run, oof = made_run(folder, competition, count, **settings), made_oof(competition, count, seed)
    light = np.random.default_rng(1).normal(50, 10, (2, 300))
    return Report(
        run=run,
        folds=run.trained(),
        oof=oof,
        scores={**summary(oof), "tta": True, "run_id": run.id, "snapshot": run.prepared.id},
        tables=tables(oof),
        suspects=suspects(oof),
        comparison=Comparison(measures={"brightness in %": (light[0], light[1])}, answers=answered(oof, None)),
    )


def made_side(folder: Path, name: str, oof: OutOfFold, **settings: Any) -> Side:
    """Return a run for compare."""
    run = made_run(folder / name, oof.competition, len(oof.target), name)
    rows: list[dict[str, float | None]] = [
        {"epoch": float(epoch), "loss": 1 / epoch, "score": epoch / 9, "lr": 0.1, "seconds": 30.0}
        for epoch in range(1, 6)
    ]
    return Side(
        run=run, oof=oof, interval=interval_of(oof), num_trained=NUM_FOLDS, num_folds=NUM_FOLDS, seconds=450.0,
        settings=settings, curves={0: rows, 1: rows},
    )  # fmt: skip
