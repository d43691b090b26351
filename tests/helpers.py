"""Opening what commands wrote, as their successors do."""

from pathlib import Path

import pandas as pd

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
