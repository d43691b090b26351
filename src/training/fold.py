"""One fold's training: assemble the parts, start or resume, then predict the held-out images."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from src.config import TrainConfig, TrainSettings
from src.core.errors import InputError
from src.core.flags import check_image_size
from src.core.records import write_record
from src.core.runtime import Compute, to_device
from src.core.writing import locked, sha256_of, write_arrays, write_csv
from src.data.cache import ImageCache
from src.data.loader import Batches, Loader
from src.inference.predictor import Predictor
from src.metrics import score_of
from src.models.build import read_options
from src.models.contract import check_takes, normalisation
from src.models.network import Network
from src.runs.record import DataRecord, FoldRecord, FoldResult, ModelRecord
from src.runs.run import FoldPaths, Run
from src.runs.versions import versions
from src.training.linear_probe import LinearProbe, serve_features, with_linear_probe
from src.training.resume import check_unchanged, saved_record, settings_of
from src.training.setup import choose_device_cache, make_loader, make_network, make_state
from src.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """What a fold reads."""

    train: Loader
    val: Loader
    val_paths: pd.Series
    cache_size: tuple[int, int]
    labels_sha256: str


def train_fold(config: TrainConfig, run: Run, remaining: list[int], compute: Compute) -> FoldResult:
    """Train, or resume, the first of the folds that this command has still to do.

    Raises InputError if another process is training it.
    """
    number = remaining[0]
    paths = run.fold_paths(number)
    with locked(paths.folder, f"is training {paths.folder.name}"):
        saved = saved_record(config, run, number)
        settings, weights = settings_of(config, saved)
        if saved:
            check_unchanged(saved, settings, weights, run)
        if saved and saved.result and paths.oof.exists():
            print(
                f"fold {number}: already trained, score {saved.result.score:.4f} ({paths.folder}); "
                "--restart trains it again"
            )
            return saved.result
        data = _open_data(config, run, remaining, compute, saved)
        network = make_network(
            _with_own_network(config, paths, saved), run.competition, data.train.image_size, saved is not None
        )
        if config.progressive_resize < 1:
            shape = (run.competition.channels, *data.train.size_at(0))
            check_takes(network.backbone, config.backbone, shape, run.competition.layout)
        to_device(network, compute)
        if not saved:  # all checks have passed: an old folder may be deleted
            _begin(paths, run, Path(config.backbone), _record(settings, weights, number, run, data, network))
        predictor = Predictor(competition=run.competition, compute=compute)
        trainer = _make_trainer(config, paths, data, network, run, predictor, len(remaining) - 1)
        if saved:
            trainer.resume()
            print(f"fold {number}: resumes after epoch {len(trainer.history)}, step {trainer.progress.step}")
        trainer.run()
        return _finish(run, number, trainer, data, predictor)


def _open_data(
    config: TrainConfig, run: Run, remaining: list[int], compute: Compute, saved: FoldRecord | None
) -> FoldData:
    """Return the loaders of a fold's training and held-out images. Raises InputError if labels and folds do not fit."""
    prepared, competition = run.prepared, run.competition
    labels = prepared.labels.merge(prepared.folds, on="image_path", validate="one_to_one")
    if len(labels) != len(prepared.labels):
        raise InputError(
            f"{prepared.folds_file}: has no row for some images of labels.csv; run {prepared.command()} again"
        )
    labels_sha256 = sha256_of(prepared.labels_file)
    if saved and saved.data.labels_sha256 != labels_sha256:
        raise InputError(
            f"{prepared.labels_file}: other labels than this fold was started with; prepare as before, or --restart"
        )
    cache = prepared.cache("train", saved.data.cache_size if saved else _cache_size(config, run, remaining))
    size = _network_size(config, run, cache)
    is_val = (labels["fold"] == remaining[0]).fillna(False).astype(bool)
    blocks = saved.data.in_blocks if saved else None

    def loader(table: pd.DataFrame, train: bool) -> Loader:
        rows = cache.rows_of(table["image_path"].tolist())
        targets = table[competition.targets].to_numpy(np.int64)
        return make_loader(
            config, competition, compute, cache.images, rows, targets, size, train=train,
            in_blocks=blocks if train else False,
        )  # fmt: skip

    return FoldData(
        train=loader(labels[~is_val], True),
        val=loader(labels[is_val], False),
        val_paths=labels[is_val]["image_path"],
        cache_size=cache.image_size,
        labels_sha256=labels_sha256,
    )


def _cache_size(config: TrainConfig, run: Run, remaining: list[int]) -> tuple[int, int]:
    """Return which cache a new fold reads: that of the run's other folds, that of --image-size, or the newest."""
    started = [paths.number for paths in run.started_folds()]
    others = [number for number in started if not (config.restart and number in remaining)]
    if others:
        return run.open_fold(others[0]).record.data.cache_size
    if config.image_size and run.prepared.cache_facts("train", config.image_size).exists():
        return config.image_size
    return run.prepared.facts.image_size


def _network_size(config: TrainConfig, run: Run, cache: ImageCache) -> tuple[int, int]:
    size = check_image_size(config.image_size or cache.image_size)
    if size[0] > cache.image_size[0] or size[1] > cache.image_size[1]:
        height, width = cache.image_size
        print(
            f"note: images are stretched from the cache's {height}x{width}; if the originals are larger, "
            f"{run.prepared.command(size=size)} shows the network more"
        )
    return size


def _record(
    settings: TrainSettings, weights: str | None, number: int, run: Run, data: FoldData, network: Network
) -> FoldRecord:
    mean, std = normalisation(network.backbone, run.competition.channels)
    return FoldRecord(
        competition=run.competition.name,
        run=run.name,
        fold=number,
        heads=run.competition.heads,
        model=ModelRecord(
            backbone=settings.backbone.split(" ")[0],  # of a network file its name; _begin copies it
            options=read_options(settings.backbone_options),
            layout=run.competition.layout,
            image_size=data.train.image_size,
            mean=mean,
            std=std,
        ),
        data=DataRecord(
            cache_size=data.cache_size,
            labels_sha256=data.labels_sha256,
            num_train=len(data.train.rows),
            num_val=len(data.val.rows),
            in_blocks=data.train.in_blocks,
        ),
        train=settings,
        weights=weights,
        versions=versions(),
    )


def _with_own_network(config: TrainConfig, paths: FoldPaths, saved: FoldRecord | None) -> TrainConfig:
    """Return the config with the fold's own copy of a network file, if it resumes."""
    if not saved or not config.backbone.endswith(".py"):
        return config
    return replace(config, backbone=str(paths.folder / Path(config.backbone).name))


def _begin(paths: FoldPaths, run: Run, backbone: Path, record: FoldRecord) -> None:
    """Empty the fold's folder and write its config.json, the run's folds.csv, and a copy of a network file."""
    source = backbone.read_bytes() if backbone.suffix == ".py" else None  # first: it may be this folder's own copy
    for name in ("last.pt", "previous_last.pt"):  # first: a folder without them is started again
        (paths.folder / name).unlink(missing_ok=True)
    shutil.rmtree(paths.folder, ignore_errors=True)
    write_csv(run.folds_file, run.prepared.folds)
    if source is not None:
        paths.folder.mkdir(parents=True, exist_ok=True)
        (paths.folder / backbone.name).write_bytes(source)
    write_record(paths.config, record)


def _make_trainer(
    config: TrainConfig,
    paths: FoldPaths,
    data: FoldData,
    network: Network,
    run: Run,
    predictor: Predictor,
    folds_after: int,
) -> Trainer:
    compute, started = predictor.compute, time.perf_counter()
    plain = Predictor(competition=run.competition, compute=compute, tta=False)
    trained: nn.Module = network
    score: Callable[[nn.Module], float] = partial(plain.score, loader=data.val)
    if config.freeze_backbone:
        trained = LinearProbe(network, config.dropout)
        served: Batches
        served, score = serve_features(network, data.train, data.val, run.competition, compute)
    else:
        served = choose_device_cache(config, data.train, compute)
    return Trainer(
        paths=paths,
        settings=config.settings,
        state=make_state(config, trained, compute),
        loader=served,
        layout=run.competition.layout,
        compute=compute,
        evaluate=score,
        full_model=partial(with_linear_probe, network) if config.freeze_backbone else nn.Identity(),
        unit="features" if config.freeze_backbone else "images",
        profile=config.profile,
        save_every=config.save_every,
        folds_after=folds_after,
        seconds_before=time.perf_counter() - started,  # such as computing features
    )


def _finish(run: Run, number: int, trainer: Trainer, data: FoldData, predictor: Predictor) -> FoldResult:
    """Predict the held-out images with the kept weights; write oof.npz and the result into config.json."""
    fold = run.open_fold(number)
    network = to_device(fold.network(), predictor.compute)
    plain, mean = predictor.predict(network, data.val, f"fold {number}, held-out images")
    scores = [score_of(values, data.val.targets, run.competition) for values in (plain, mean)]
    history = trainer.history
    result = FoldResult(
        score=scores[0],
        score_tta=scores[1],
        epochs=len(history),
        seconds=sum(row["seconds"] for row in history) + trainer.seconds_before,
        images_per_second=float(np.median([row["images_per_second"] for row in history])),
        weights_sha256=sha256_of(fold.weights_file),
    )
    fold.finish(result)
    text_paths = data.val_paths.to_numpy(dtype=str)
    write_arrays(fold.paths.oof, image_path=text_paths, probabilities=plain, probabilities_tta=mean)
    print(f"fold {number}: score {scores[0]:.4f}, with test-time views {scores[1]:.4f}; {fold.paths.folder}")
    print(f"fold {number}: SHA-256 of the weights {result.weights_sha256[:16]}")
    return result
