"""Flags of prepare."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.config.paths import Paths


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Paths):
    """Labels, checks, folds and the decoded image cache."""

    split: Literal["kfold", "official", "holdout"] = "kfold"
    """kfold: over all labelled images; official: the organiser's validation set is the one held-out fold; holdout: one
    fold of about --num-val images, all others are always trained on."""
    num_folds: int = 5
    """Folds of --split kfold."""
    num_val: int | None = None
    """Images of --split holdout; default: a fifth of them, at most 1000."""
    folds: Path | None = None
    """A folds.csv of your own (image_path,fold), instead of --split."""
    relabel: tuple[Path, ...] = ()
    """Files with corrected labels (image_path,label,by,when), as the report writes them; part of the snapshot's id."""
    crops: Path | None = None
    """A crops.csv, as crops writes it: the part of each train and test image that is kept, before it is resized."""
    image_size: tuple[int, int] | None = None
    """Height and width of the cache in pixels; default: the competition's. Caches of other sizes are kept."""
    resize: Literal["stretch", "letterbox", "center-crop"] | None = None
    """How images of another shape are fitted to the cache's size: stretched, whole between grey bars, or the centre
    alone; default: the competition's, which is to stretch unless it says otherwise. Train, validation and test images
    alike; for random resized crops see --augment.crop of train."""
    seed: int = 0
    """Random seed for the folds."""
    duplicates: bool = True
    """Search for exact and near duplicates, and keep them in one group. Otherwise only the competition's own groups are
    kept together, and copies of an image may lie on both sides of a fold."""
    list: bool = False
    """Only list the snapshots, and which runs use them."""
    prune: bool = False
    """Only delete snapshots that are neither the newest nor used by a run, and their image caches."""
    only_test: bool = False
    """Only decode the test images that are in input/ now, for runs that are trained: in a code competition, the hidden
    ones. Snapshots, labels and training images are not touched."""
    strict: bool = False
    """Stop at any problem with an image (exit code 2) instead of skipping it."""
    max_unreadable: float = 0.01
    """Largest share of the test images that may be missing or unreadable: their answers come from a black image."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused from their header."""
    num_processes: int | None = None
    """Decoding processes of --engine local, started after 2 s; default: one per core."""
    engine: Literal["local", "ray"] = "local"
    """Where images are decoded. local: processes of this machine; ray: tasks of a Ray cluster (requirements-ray.txt)
    whose nodes all have the same input folder."""
    address: str | None = None
    """HOST:PORT of the Ray cluster; default: one is started on this machine."""
