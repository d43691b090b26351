"""What a run and its folds say of themselves: run.json, written when the run begins, and fold.json of each fold."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer

from src.competitions.layout import HeadLayout
from src.competitions.spec import Head
from src.config import TrainSettings
from src.core.errors import InputError
from src.core.flags import flat_values
from src.core.progress import minutes
from src.core.records import read_record

# Flags of files and other runs, which run.json keeps as a name and the first digits of a SHA-256.
HASHED = ("backbone", "weights", "start_from", "soft_labels", "fonts", "suspects")
HASH = re.compile(r" [0-9a-f]{12}$")

Score = Annotated[  # NaN where the metric is not defined, which JSON cannot hold
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None),
]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return value if isinstance(value, bool | int | float | str) else "" if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """All that is needed to build the network again."""

    backbone: str
    options: dict[str, Any] = field(default_factory=dict)
    layout: HeadLayout
    image_size: tuple[int, int]
    mean: tuple[float, ...]  # of RGB in [0, 1]; one value for grey images, or one for each band
    std: tuple[float, ...]
    depth: Annotated[int, Field(exclude_if=lambda depth: depth == 8)] = 8  # bits of each channel; not written if 8


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """run.json: the one snapshot and the one set of settings that all folds of a run share. Its seal names the run."""

    competition: str
    snapshot: str  # id, see src.data.snapshot
    heads: tuple[Head, ...]
    hflip_ok: bool  # of the competition, as the next two: defaults of augmentation and views depend on them
    pad_class: int | None
    moves_ok: Annotated[bool, Field(exclude_if=lambda ok: ok)] = True
    cache_size: tuple[int, int]
    model: ModelRecord
    train: TrainSettings  # without the path of --weights, which may change ...
    weights: str | None  # ... but not its name and contents

    def flat_settings(self) -> dict[str, Any]:
        """Return the settings and what else decides the training, with one level of names and plain values."""
        values = flat_values(self.train) | {"weights": self.weights, "snapshot": self.snapshot}
        values |= {name: " x ".join(map(str, size)) for name, size in
                   (("image_size", self.model.image_size), ("cache_size", self.cache_size))}  # fmt: skip
        return {name: _plain(value) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """How a fold's training ended, and the hashes of what it left."""

    score: Score  # of the plain images
    score_tta: Score  # of the mean over views
    epochs: int
    seconds: float  # of training and scoring, over all interruptions
    images_per_second: float  # median over epochs
    weights_sha256: str  # of the kept weights: last.safetensors, or with --keep best best.safetensors
    oof_sha256: str  # of oof.npz


@dataclass(frozen=True, kw_only=True)
class FoldRecord:
    """fold.json: written when a fold begins, and again with its result. Holds run.json too: one is checked against the
    other, and run.json can be lost."""

    run: RunRecord
    fold: int
    num_train: int
    num_val: int
    in_blocks: bool  # whether images are shuffled in blocks, as the cache did not fit into memory
    given: dict[str, str]  # flags of files and other runs as they were given, for the commands in messages
    started_from: str | None = None  # SHA-256 of the weights that it began with, if they were another run's
    versions: dict[str, str]
    result: FoldResult | None = None


def run_in_file(folder: Path) -> RunRecord | None:
    """Return what run.json holds, or None if it is lost or damaged."""
    try:
        return read_record(folder / "run.json", RunRecord, "", "")
    except InputError:
        return None


def readable_run(folder: Path) -> RunRecord | None:
    """Return a run's record if it has begun: from run.json, or if that is lost or damaged from its folds."""
    record = run_in_file(folder)
    if record:
        return record
    records = []
    for path in sorted(folder.glob("fold*/fold.json")):
        try:
            records.append(read_record(path, FoldRecord, "", "").run)
        except InputError:
            continue
    return records[0] if records and all(record == records[0] for record in records) else None


def training_summary(results: list[FoldResult], seconds: float, folder: Path) -> str:
    """Return the closing lines of a training: the folds' mean score, and the time of all and of this command."""
    lines = []
    if len(results) > 1:
        scores = [result.score for result in results if not math.isnan(result.score)]
        spread = f" ± {np.std(scores, ddof=1):.4f} (standard deviation over folds)" if len(scores) > 1 else ""
        lines.append(f"{len(scores)} folds: {np.mean(scores):.4f}{spread}" if scores else "no fold's score is defined")
        if 0 < len(scores) < len(results):
            lines[0] += f"; of {len(results) - len(scores)} more the score is not defined"
    total = sum(result.seconds for result in results)
    lines.append(f"trained for {minutes(total)} in all, this command took {minutes(seconds)}: {folder}")
    return "\n".join(lines)
