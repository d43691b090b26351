"""Shared by tests: open what commands wrote, read images, look into networks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from torch import nn

from src.config import Paths
from src.core.writing import sha256_of, write_arrays
from src.data.cache import ImageCache
from src.data.prepared import Prepared, open_prepared
from src.data.snapshot import read_snapshot, read_table
from src.runs.fold import TrainedFold
from src.runs.run import Run, open_run


def prepared_at(root: Path, competition: str = "") -> Prepared:
    """Open runs/<competition>, given that folder; `competition` names a file of one's own."""
    return open_prepared(Paths(competition=competition or root.name, runs_dir=root.parent))


def run_at(run_dir: Path, competition: str = "") -> Run:
    """Open a run, given its folder runs/<competition>/<run>."""
    root = run_dir.parent
    return open_run(Paths(competition=competition or root.name, runs_dir=root.parent), run_dir.name)


def snapshot_at(root: Path) -> Path:
    """Return the newest snapshot's folder, given runs/<competition>."""
    current = json.loads((root / "prepared" / "current.json").read_text())
    return root / "prepared" / str(current["snapshot"])


def table_at(root: Path, name: str) -> pd.DataFrame:
    """Read labels, folds, test or problems of the newest snapshot, given runs/<competition>."""
    folder = snapshot_at(root)
    return read_table(folder, f"{name}.csv", read_snapshot(folder, ""), "python -m src.prepare")


def train_cache(run_dir: Path) -> ImageCache:
    """Open the cache of training images that was made last."""
    return prepared_at(run_dir.parent).cache("train")


def feature_files(root: Path) -> list[Path]:
    """Return the kept features of the training images, given runs/<competition>: beside a cache's own .npz."""
    folder = root / "cache"
    facts = tuple(json.loads(path.read_text())["facts"][:8] for path in folder.glob("train_*.json"))
    return [path for path in folder.glob("train_*.npz") if not path.stem.endswith(facts)]


def replace_oof(fold: TrainedFold, arrays: dict[str, np.ndarray]) -> None:
    """Replace the out-of-fold predictions of a trained fold, as if it had ended with these."""
    write_arrays(fold.paths.oof, **arrays)
    fold.finish(replace(fold.result, oof_sha256=sha256_of(fold.paths.oof)))


def read_image(path: Path) -> np.ndarray:
    """Return an image as OpenCV reads it: (H, W, 3) uint8, BGR."""
    image = cv2.imread(str(path))
    assert image is not None
    return image


def classifier(model: nn.Module) -> nn.Linear:
    """Return the last layer of a timm network."""
    timm_model: Any = model
    layer = timm_model.get_classifier()
    assert isinstance(layer, nn.Linear)
    return layer
