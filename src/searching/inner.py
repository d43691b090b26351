"""The images that a search sees: a competition of its own, without those of the reported fold.

The search's folder holds trials/<competition>/ with a snapshot whose labels.csv lacks the reported fold and whose folds
are dealt anew among the other images, so that a trial cannot train or be scored on what is reported. Duplicates of an
image lie in its own group, which is never split, so none of the reported images has one there. The images are read from
the competition's own cache.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.config import Paths, SearchConfig
from src.core.errors import InputError
from src.data.folds import kfold
from src.data.prepared import Prepared, open_snapshot
from src.data.problems import Problem
from src.data.snapshot import publish, set_current

DEFAULT_FOLDS = 5
NO_PROBLEMS = pd.DataFrame(columns=list(Problem._fields))


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Where the trials are prepared and trained."""

    paths: Paths
    prepared: Prepared
    num_folds: int
    folds: tuple[int, ...]  # those that trials are scored on


def make_inner(config: SearchConfig, prepared: Prepared, folder: Path) -> Inner:
    """Write the snapshot of the trials below `folder`, or find it there. Raises InputError if it cannot be made."""
    folds_there = prepared.fold_numbers("all")
    if config.report_fold not in folds_there:
        raise InputError(f"--report-fold {config.report_fold}: the folds are {', '.join(map(str, folds_there))}")
    reported = prepared.folds["image_path"][prepared.folds["fold"] == config.report_fold]
    labels = prepared.labels[~prepared.labels["image_path"].isin(reported)].reset_index(drop=True)
    shared = set(labels["group"]) & set(prepared.labels["group"][prepared.labels["image_path"].isin(reported)])
    if shared:
        print(f"note: {len(shared)} groups of duplicates have images on both sides of fold {config.report_fold}; those")
        print("among the other images are not searched on, so that the reported score stays unbiased")
        labels = labels[~labels["group"].isin(shared)].reset_index(drop=True)
    num_groups = labels["group"].nunique()
    number = config.inner_folds or min(DEFAULT_FOLDS, num_groups)
    if not 2 <= number <= num_groups:
        raise InputError(
            f"--inner-folds {number}: the images outside fold {config.report_fold} are {num_groups} groups"
        )
    if not 1 <= config.scored_folds <= number:
        raise InputError(f"--scored-folds {config.scored_folds}: must be from 1 to {number}, the inner folds")
    folds = kfold(labels, prepared.competition, number, config.seed)
    root = folder / "trials" / prepared.competition.name
    _share_cache(prepared.root / "cache", root / "cache")
    snapshot, _ = publish(
        root / "prepared",
        {"labels.csv": labels, "test.csv": prepared.test, "folds.csv": folds, "problems.csv": NO_PROBLEMS},
        competition=prepared.competition.name,
        heads=prepared.competition.heads,
        flags=f"{prepared.snapshot.flags} (of {prepared.id}, without fold {config.report_fold})",
        train=prepared.snapshot.train,
        test=prepared.snapshot.test,
    )
    set_current(root / "prepared", snapshot.id, prepared.image_size)
    paths = Paths(competition=config.competition, input_dir=config.input_dir, runs_dir=folder / "trials")
    inner = open_snapshot(paths, snapshot.id, prepared.image_size)
    return Inner(paths=paths, prepared=inner, num_folds=number, folds=tuple(range(config.scored_folds)))


def _share_cache(cache: Path, link: Path) -> None:
    """Let the trials read the competition's own image cache. Raises InputError if the file system has no links."""
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(cache, link.parent)
    if link.is_symlink() and os.readlink(link) == target:
        return
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    except OSError as error:
        raise InputError(f"{link}: cannot be linked to {cache} ({error.strerror}); use --runs-dir elsewhere") from error
