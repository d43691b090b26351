"""One fold's training: put together, gone on with, brought to its out-of-fold predictions."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.runtime import Compute, choose_compute, to_device
from src.core.writing import locked, sha256_of, write_arrays, write_csv, write_json
from src.data.cache import ImageCache, open_cache
from src.data.labels import read_prepared
from src.data.loader import Batches, Loader
from src.data.tta import tta_views
from src.inference.predictor import predict_probabilities
from src.metrics import exact_matches
from src.models.build import check_takes, normalisation, read_options
from src.models.heads import num_classes_per_head
from src.models.network import Network
from src.runs.run import TrainedFold, open_fold, versions
from src.training.linear_probe import LinearProbe, serve_features, with_linear_probe
from src.training.resume import check_unchanged, saved_config, settings_of
from src.training.setup import make_loader, make_network, make_state, place, step_options
from src.training.trainer import Trainer


def _trainer(
    config: TrainConfig,
    folder: Path,
    network: Network,
    loader: Loader,
    val_loader: Loader,
    competition: Competition,
    compute: Compute,
) -> Trainer:
    def score_of(scored: nn.Module) -> float:
        probabilities, _ = predict_probabilities(scored, val_loader, competition.heads, compute)
        return float(exact_matches(probabilities, val_loader.targets, competition).mean())

    trained: nn.Module = network
    served: Batches = loader
    score: Callable[[nn.Module], float] = score_of
    if config.freeze_backbone:
        trained = LinearProbe(network, config.dropout)
        served, score = serve_features(network, loader, val_loader, competition, compute)
    else:
        served = place(config, loader, compute)
    return Trainer(
        folder=folder,
        state=make_state(config, trained, compute),
        loader=served,
        heads=competition.heads,
        compute=compute,
        options=step_options(config),
        epochs=config.epochs,
        lr=config.lr,
        schedule=config.schedule,
        warmup=config.warmup,
        early_stopping=config.early_stopping,
        evaluate=score,
        full_model=partial(with_linear_probe, network) if config.freeze_backbone else nn.Identity(),
        profile=config.profile,
        save_every=config.save_every,
        label=folder.name.replace("fold", "fold "),
    )


def train_fold(
    config: TrainConfig, number: int, competition: Competition, prepared: Path, folds: pd.DataFrame
) -> float:
    """Train one fold, or what is left of it; return its score. Raises InputError if another process does so."""
    folder = config.runs_dir / competition.name / config.run_name / f"fold{number}"
    with locked(folder, f"is training {folder.name}"):
        return _train_fold(config, number, folder, competition, prepared, folds)


def _train_fold(
    config: TrainConfig, number: int, folder: Path, competition: Competition, prepared: Path, folds: pd.DataFrame
) -> float:
    saved = saved_config(config, folder, competition)
    settings = settings_of(config, saved.get("train", {}))
    if saved:
        check_unchanged(saved["train"], settings, folder)
    if saved and (folder / "oof.npz").exists() and "result" in saved:
        score = saved["result"]["score"]
        print(f"fold {number}: trained already, score {score:.4f} ({folder}); --restart trains it anew")
        return float(score)
    labels = read_prepared(prepared, "labels").merge(folds, on="image_path", validate="one_to_one")
    if len(labels) != len(read_prepared(prepared, "labels")):
        raise InputError(
            f"{folder.parent / 'folds.csv'}: has no row for some images of labels.csv; run python -m src.prepare again"
        )
    val = (labels["fold"] == number).fillna(False).astype(bool)
    cache = open_cache(prepared, "train")
    size = _image_size(config, cache)
    data = {"cache_size": list(cache.image_size), "labels": sha256_of(prepared / "labels.csv")}
    if saved:
        check_unchanged(saved, data, folder)
    compute = choose_compute(config.device, config.precision)
    loader, val_loader = (
        make_loader(
            config,
            competition,
            cache.images,
            cache.rows_of(table["image_path"].tolist()),
            table[competition.targets].to_numpy(np.int64),
            size,
            train,
            bool(saved.get("in_blocks", False)) and train if saved else None,
        )
        for table, train in ((labels[~val], True), (labels[val], False))
    )
    network = make_network(config, competition, size, bool(saved))
    if config.progressive_resize < 1:
        check_takes(network.backbone, config.backbone, (competition.channels, *loader.size_at(0)))
    to_device(network, compute)
    if not saved:  # all that could be wrong has been found by now: what is there may go
        for name in ("last.pt", "previous_last.pt"):  # first: without them, what is left of a folder is begun anew
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        write_csv(folder.parent / "folds.csv", folds)
        facts = {"num_train": len(loader.rows), "num_val": len(val_loader.rows), **data}
        facts["in_blocks"] = loader.in_blocks
        write_json(
            folder / "config.json",
            {**_describe(config, number, competition, network, size), **facts, "train": settings},
        )

    trainer = _trainer(config, folder, network, loader, val_loader, competition, compute)
    if saved:
        trainer.resume()
        print(f"fold {number}: resumes after epoch {len(trainer.history)}, step {trainer.progress.step}")
    trainer.run()
    return _finish(open_fold(folder, competition), trainer, val_loader, labels[val]["image_path"], competition)


def _image_size(config: TrainConfig, cache: ImageCache) -> tuple[int, int]:
    size = config.image_size or cache.image_size
    if min(size) < 8 or max(size) > 4096:
        raise InputError(f"--image-size {size[0]} {size[1]}: height and width from 8 to 4096 pixels are possible")
    if size[0] > cache.image_size[0] or size[1] > cache.image_size[1]:
        height, width = cache.image_size
        print(
            f"note: images are stretched from the cache's {height}x{width}; where the originals are larger, "
            f"python -m src.prepare --image-size {size[0]} {size[1]} shows the network more"
        )
    return size


def _describe(
    config: TrainConfig, number: int, competition: Competition, network: Network, size: tuple[int, int]
) -> dict[str, Any]:
    mean, std = normalisation(network.backbone, competition.channels)
    return {
        "competition": competition.name,
        "fold": number,
        "heads": [asdict(head) for head in competition.heads],
        "model": {
            "backbone": config.backbone,
            "options": read_options(config.backbone_options),
            "num_outputs": sum(num_classes_per_head(competition.heads)),
            "image_size": size,
            "mean": mean,
            "std": std,
        },
        "versions": versions(),
    }


def _finish(
    trained: TrainedFold, trainer: Trainer, loader: Loader, paths: pd.Series, competition: Competition
) -> float:
    """Predict the held-out images with the kept weights, write oof.npz and the result into config.json."""
    network = to_device(trained.network(), trainer.compute)
    views = list(tta_views(competition.hflip_ok, trained.image_size).values())[1:]
    plain, mean = predict_probabilities(network, loader, competition.heads, trainer.compute, views)
    scores = [float(exact_matches(values, loader.targets, competition).mean()) for values in (plain, mean)]
    digest = sha256_of(trained.weights_file)
    result = {
        "score": scores[0],
        "score_tta": scores[1],
        "epochs": len(trainer.history),
        "seconds": sum(row["seconds"] for row in trainer.history),
        "images_per_second": float(np.median([row["images_per_second"] for row in trainer.history])),
        "weights_sha256": digest,
    }
    write_json(trained.folder / "config.json", {**trained.config, "result": result})
    text_paths = paths.to_numpy(dtype=str)
    write_arrays(trained.folder / "oof.npz", image_path=text_paths, probabilities=plain, probabilities_tta=mean)
    print(f"fold {trained.number}: score {scores[0]:.4f}, with test-time views {scores[1]:.4f}; {trained.folder}")
    print(f"fold {trained.number}: SHA-256 of the weights {digest[:16]}")
    return scores[0]
