"""Shared by tests: open what commands wrote, read images, look into networks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from torch import nn

from src.config import Paths
from src.data.cache import ImageCache
from src.data.prepared import Prepared, open_prepared, read_table
from src.runs.run import Run


def prepared_at(root: Path, competition: str = "") -> Prepared:
    """Open runs/<competition>, given that folder; `competition` names a file of one's own."""
    return open_prepared(Paths(competition=competition or root.name, runs_dir=root.parent))


def run_at(run_dir: Path, competition: str = "") -> Run:
    """Open a run, given its folder runs/<competition>/<run>."""
    return Run(prepared=prepared_at(run_dir.parent, competition), name=run_dir.name)


def table_at(prepared: Path, name: str) -> pd.DataFrame:
    """Read labels, folds or test of a prepared folder."""
    return read_table(prepared / f"{name}.csv", "python -m src.prepare")


def train_cache(run_dir: Path) -> ImageCache:
    """Open the cache of training images that was made last."""
    return prepared_at(run_dir.parent).cache("train")


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
