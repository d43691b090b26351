"""Flags of search."""

from dataclasses import dataclass

from src.config.paths import Paths


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Paths):
    """Settings of train, searched with Optuna (requirements-search.txt)."""

    run_name: str = "search"
    """Name of the search, and beginning of the names of the two runs that are compared at its end."""
    space: tuple[str, ...] = ()
    """Flags of train. A range lr=1e-4..1e-2:log, epochs=8..24, augment.rotate=0..20:step=5 or a list
    backbone=resnet18,svhn_cnn is searched; one value epochs=12 is the same in every training."""
    trials: int = 30
    """Trainings, pruned ones included; a greater number continues the search."""
    minutes: float | None = None
    """No trial begins after this time."""
    report_fold: int = 0
    """Its images take no part in the search; the best and the default settings are compared on it at the end."""
    inner_folds: int | None = None
    """The other images are dealt into so many folds, stratified and with groups kept together; default: 5, or as many
    as there are groups."""
    scored_folds: int = 1
    """On how many of the inner folds each trial is scored, by the mean."""
    prune: bool = True
    """End a trial whose score lags behind the median of the earlier ones at the same epoch of its first fold."""
    workers: int = 1
    """Processes that train at once. With one, the same seed gives the same trials."""
    cores_per_worker: int | None = None
    """Threads of each training; default: an equal share of the cores."""
    seed: int = 0
    """Random seed for Optuna's sampler and the inner folds."""
    report: bool = True
    """Train the best and the default settings on the reported fold at the end, once."""
