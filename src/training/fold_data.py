"""What a fold reads: the loaders of its training and its held-out images."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import check_image_size
from src.core.runtime import Compute, memory_limit
from src.core.texts import Texts
from src.data.boxes import boxes_in_cache
from src.data.cache import ImageCache
from src.data.loader import Loader
from src.data.pixels import Images, JoinedImages
from src.data.prepared import Prepared
from src.data.recombine import recombined
from src.data.remote import RemotePixels
from src.runs.fold import TrainedFold
from src.runs.run import Run
from src.training.loading import MAX_MEMORY_SHARE, TOO_LARGE, make_loader
from src.training.pseudo_labels import PseudoLabels
from src.training.soft_labels import soft_targets
from src.training.suspects import suspected_rows


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
    cache = prepared.cache("train", run.record.cache_size if run.record else _cache_size(config, run))
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
        is_train, weights = _without_suspects(config, cache, labelled, is_train)

    def loader(chosen: np.ndarray, train: bool) -> Loader:
        rows, targets, soft = labelled.rows[chosen], labelled.targets[chosen], None
        of_images = None if weights is None else weights[chosen]
        if train and config.soft_labels:
            own = cache.image_paths.pick(rows)
            soft = soft_targets(Path(config.soft_labels), competition, own, targets, cache.image_paths)
        served = _Served(cache.images, cache.numbers, rows, targets, of_images)
        if train and pseudo:
            served = served.with_pseudo_labels(pseudo, cache, prepared)
        if train and config.augment.recombine:
            served = served.with_recombined(boxes_of(config, prepared, cache), config, competition)
        return make_loader(
            config, competition, compute, served.images, served.rows, served.targets, size, train=train,
            numbers=served.numbers, in_blocks=blocks, image_weights=served.weights, soft=soft, variants=served.variants,
        )  # fmt: skip

    train, val = loader(is_train, True), loader(is_val, False)
    return FoldData(
        train=train,
        val=val,
        val_paths=cache.image_paths.pick(val.rows),
        cache_size=cache.image_size,
        pseudo=pseudo,
    )


def _without_suspects(
    config: TrainConfig, cache: ImageCache, labelled: "_Labelled", is_train: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which labelled images are trained on, (M,) bool, and their weights; suspects are skipped or weigh less."""
    suspected = np.isin(labelled.rows, suspected_rows(Path(str(config.suspects)), cache.image_paths))
    weight, count = config.suspects_weight, int((suspected & is_train).sum())
    found = f"suspects: {count:,} of {int(is_train.sum()):,}"
    if not weight:
        print(f"{found} training images are skipped")
        return is_train & ~suspected, labelled.weights
    print(f"{found} training images have weight {weight:g} in the loss")
    weights = np.ones(len(suspected), np.float32) if labelled.weights is None else labelled.weights
    return is_train, np.where(suspected, weight * weights, weights).astype(np.float32)


class _Served(NamedTuple):
    """What a loader serves: images and the numbers that draws depend on, (N,); rows (M,), targets and weights of
    them; variants of the first of these, see Loader."""

    images: Images
    numbers: np.ndarray | None
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    variants: np.ndarray | None = None

    def with_pseudo_labels(self, pseudo: PseudoLabels, cache: ImageCache, prepared: Prepared) -> "_Served":
        """Return this and the test images that a teacher has answered, each of which counts 1."""
        test, table = prepared.cache("test", cache.image_size), pseudo.table
        added = len(cache.images) + test.rows_of(table["image_path"].tolist())
        first, second = (np.arange(len(one.images)) if one.numbers is None else one.numbers for one in (cache, test))
        return _Served(
            images=JoinedImages(self.images, test.images),
            numbers=np.concatenate([first, len(first) + second]),
            rows=np.concatenate([self.rows, added]),
            targets=np.concatenate([self.targets, table[prepared.competition.targets].to_numpy(self.targets.dtype)]),
            weights=None if self.weights is None else np.concatenate([self.weights, np.ones(len(table), np.float32)]),
        )

    def with_recombined(self, boxes: np.ndarray, config: TrainConfig, competition: Competition) -> "_Served":
        """Return this and variants of the images with boxes; boxes (cache's images, num_places, 4)."""
        if 2 * self.images.nbytes > MAX_MEMORY_SHARE * memory_limit():
            raise InputError(f"--augment.recombine: {TOO_LARGE}")
        own = self.rows < len(boxes)
        at_rows = np.full((len(self.rows), *boxes.shape[1:]), np.nan)
        at_rows[own] = boxes[self.rows[own]]
        pad_class = -1 if competition.pad_class is None else competition.pad_class  # -1: all places are taken
        made = recombined(self.images, self.rows, self.targets, at_rows, pad_class, config.seed + 6)
        places, count = made.of_image >= 0, len(made.images)
        if not count:
            raise InputError(f"--augment.recombine: no two training images of {competition.name} have boxes")
        print(f"recombined: {count:,} variants of {int(places.any(axis=1).sum()):,} training images")
        numbers = np.arange(len(self.images)) if self.numbers is None else self.numbers
        origin = np.empty(count, np.int64)
        origin[made.of_image[places]] = np.nonzero(places)[0]
        return _Served(
            images=JoinedImages(self.images, made.images),
            numbers=np.concatenate([numbers, numbers.max() + 1 + np.arange(count)]),
            rows=np.concatenate([self.rows, len(self.images) + np.arange(count)]),
            targets=np.concatenate([self.targets, made.targets]),
            weights=None if self.weights is None else np.concatenate([self.weights, self.weights[origin]]),
            variants=np.where(places, len(self.rows) + made.of_image, -1),
        )


def boxes_of(config: TrainConfig, prepared: Prepared, cache: ImageCache) -> np.ndarray:
    """Return the boxes of the cache's images, (N, num_places, 4), see boxes_in_cache. Raises InputError."""
    num_places, shapes, found = len(prepared.competition.heads), cache.readings.shapes, None
    for chunk in prepared.chunks("labels.csv"):
        if "boxes" not in chunk or shapes is None:
            break
        if found is None:
            found = np.full((len(cache.images), num_places, 4), np.nan)
        paths = chunk["image_path"].tolist()
        rows = cache.rows_of(paths)
        how = prepared.decoding.fit
        found[rows] = boxes_in_cache(chunk["boxes"].tolist(), paths, shapes[rows], cache.image_size, how, num_places)
    if found is None:
        raise InputError(
            f"--augment.recombine: prepare has kept no boxes of {prepared.competition.name}, or no image sizes; "
            f"leave it out, or run {prepared.command(size=cache.image_size)} if its labels have a column boxes"
        )
    return found


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


def _cache_size(config: TrainConfig, run: Run) -> tuple[int, int]:
    """Return which cache a new run reads: that of --image-size if there is one, or the newest."""
    if config.image_size and run.prepared.cache_file("train", config.image_size).with_suffix(".json").exists():
        return config.image_size
    return run.prepared.image_size


def _network_size(config: TrainConfig, run: Run, cache: ImageCache) -> tuple[int, int]:
    size = check_image_size(config.image_size or cache.image_size)
    if size[0] > cache.image_size[0] or size[1] > cache.image_size[1]:
        height, width = cache.image_size
        print(
            f"note: images are stretched from the cache's {height}x{width}; if the originals are larger, "
            f"{run.prepared.command(size=size)} shows the network more"
        )
    return size
