"""What a fold reads: the loaders of its training and its held-out images."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import check_image_size
from src.core.runtime import Compute
from src.core.texts import Texts
from src.data.cache import ImageCache
from src.data.loader import Loader
from src.data.prepared import Prepared
from src.data.remote import RemotePixels
from src.runs.fold import TrainedFold
from src.runs.run import Run
from src.training.loading import make_loader
from src.training.pseudo_labels import PseudoLabels
from src.training.served import Served, boxes_of, needs_boxes
from src.training.soft_labels import soft_targets
from src.training.suspects import answered_together, suspected_rows


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """What a fold reads."""

    train: Loader
    val: Loader
    val_paths: Texts
    cache_size: tuple[int, int]
    pseudo: PseudoLabels | None = None


def open_data(
    config: TrainConfig,
    run: Run,
    number: int,
    compute: Compute,
    saved: TrainedFold | None,
    pseudo: PseudoLabels | None = None,
) -> FoldData:
    """Return the loaders of a fold's training and held-out images. Raises InputError if labels and folds do not fit."""
    prepared, competition = run.prepared, run.competition
    cache = prepared.cache("train", run.record.cache_size if run.record else prepared.cache_size(config.image_size))
    if compute.has_idle_cores:
        cache.images.check_in_background()
    size = _network_size(config, run, cache)
    remote = isinstance(cache.images, RemotePixels)
    blocks = saved.record.in_blocks if saved else remote or None
    if remote and not blocks:
        raise InputError(
            f"--cache-url: fold {number} began shuffled over the whole cache, which needs its .npy on this machine; "
            "leave the flag out, or use --restart"
        )
    fold = _folds(prepared, cache)
    labelled = _labelled(prepared, cache)
    is_val = fold[labelled.rows] == number

    is_train, weights = ~is_val, labelled.weights
    if config.suspects:
        is_train, weights = _without_suspects(config, prepared, cache, labelled, is_train)

    def loader(chosen: np.ndarray, train: bool) -> Loader:
        rows, targets, soft = labelled.rows[chosen], labelled.targets[chosen], None
        of_images = None if weights is None else weights[chosen]
        if train and config.soft_labels:
            own = cache.image_paths.pick(rows)
            soft = soft_targets(Path(config.soft_labels), competition, own, targets, cache.image_paths)
        served, flag = Served(cache.images, rows, targets, cache.numbers, of_images), needs_boxes(config)
        boxes = boxes_of(flag, prepared, cache) if train and flag else None
        if boxes is not None:
            served = served.with_boxes(flag, boxes[rows], competition, cache.image_size)
        if train and pseudo:
            served = served.with_pseudo_labels(pseudo, cache, prepared)
        if train and config.synthetic:
            served = served.with_synthetic(config, prepared)
        if config.augment.recombine and boxes is not None:
            served = served.with_recombined(boxes, config, competition)
        return make_loader(config, competition, compute, served, size, train=train, in_blocks=blocks, soft=soft)

    train, val = loader(is_train, True), loader(is_val, False)
    return FoldData(
        train=train,
        val=val,
        val_paths=cache.image_paths.pick(val.rows),
        cache_size=cache.image_size,
        pseudo=pseudo,
    )


def _without_suspects(
    config: TrainConfig, prepared: Prepared, cache: ImageCache, labelled: "_Labelled", is_train: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which labelled images are trained on, (M,) bool, and their weights; suspects are skipped or weigh less."""
    rows = suspected_rows(Path(str(config.suspects)), cache.image_paths)
    rows = answered_together(rows, cache.image_paths, prepared.chunks("labels.csv"))
    suspected = np.isin(labelled.rows, rows)
    weight, count = config.suspects_weight, int((suspected & is_train).sum())
    found = f"suspects: {count:,} of {int(is_train.sum()):,}"
    if not weight:
        print(f"{found} training images are skipped")
        return is_train & ~suspected, labelled.weights
    print(f"{found} training images have weight {weight:g} in the loss")
    weights = np.ones(len(suspected), np.float32) if labelled.weights is None else labelled.weights
    return is_train, np.where(suspected, weight * weights, weights).astype(np.float32)


class _Labelled(NamedTuple):
    """The labelled images: the cache's row of each, (M,) int64, targets (M, num_targets), and weights (M,) if given."""

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None


def _labelled(prepared: Prepared, cache: ImageCache) -> _Labelled:
    rows, targets, weights = [], [], []
    for chunk in prepared.chunks("labels.csv"):
        rows.append(cache.rows_of(chunk["image_path"].tolist()))
        targets.append(chunk[prepared.competition.targets].to_numpy(prepared.competition.target_type))
        if "weight" in chunk.columns:
            weights.append(chunk["weight"].to_numpy(np.float32))
    return _Labelled(np.concatenate(rows), np.concatenate(targets), np.concatenate(weights) if weights else None)


def _folds(prepared: Prepared, cache: ImageCache) -> np.ndarray:
    """Return (N,) int64: the fold of each of the cache's images, -1 for none."""
    folds = np.full(len(cache.images), -1)
    for chunk in prepared.chunks("folds.csv"):
        folds[cache.rows_of(chunk["image_path"].tolist())] = chunk["fold"].fillna(-1).to_numpy(np.int64)
    return folds


def _network_size(config: TrainConfig, run: Run, cache: ImageCache) -> tuple[int, int]:
    size = check_image_size(config.image_size or cache.image_size)
    if size[0] > cache.image_size[0] or size[1] > cache.image_size[1]:
        height, width = cache.image_size
        print(
            f"note: images are stretched from the cache's {height}x{width}; if the originals are larger, "
            f"{run.prepared.command(size=size)} shows the network more"
        )
    return size
