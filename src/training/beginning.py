"""What is written when a run and a fold begin: run.json, fold.json, and copies of what they are trained from."""

import shutil
from dataclasses import replace
from pathlib import Path

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.records import write_record
from src.core.writing import write_bytes
from src.models.build import read_options
from src.models.network import Network
from src.runs.record import HASHED, FoldRecord, ModelRecord, RunRecord
from src.runs.run import Run
from src.runs.versions import versions
from src.training.changes import settings_of
from src.training.fold_data import FoldData
from src.training.setup import normalisation_of
from src.training.starting import starting_fold


def run_record(config: TrainConfig, run: Run, data: FoldData, network: Network) -> RunRecord:
    """Return what run.json will say of a run that begins, or did, with these flags."""
    settings, weights = settings_of(config, run.record)
    mean, std = normalisation_of(network.backbone, run.competition, data.train.levels)
    return RunRecord(
        competition=run.competition.name,
        snapshot=run.prepared.id,
        heads=run.competition.heads,
        hflip_ok=run.competition.hflip_ok,
        pad_class=run.competition.pad_class,
        moves_ok=run.competition.moves_ok,
        cache_size=data.cache_size,
        model=ModelRecord(
            backbone=settings.backbone.split(" ")[0],  # of a network file its name; begin_fold copies it
            options=read_options(settings.backbone_options),
            layout=run.competition.layout,
            image_size=data.train.image_size,
            mean=mean,
            std=std,
            depth=run.competition.depth,
        ),
        train=settings,
        weights=weights,
    )


def with_own_network(config: TrainConfig, run: Run) -> TrainConfig:
    """Return the config with the run's own copies of the files that the network is built from, if it has any."""
    if run.keeps_weights and not run.copies[0].is_file() and config.weights and config.weights.is_file():
        return config  # a kill came before it was copied; its hash was compared
    if run.keeps_weights:
        return replace(config, weights=run.weights_copy())
    if not config.backbone.endswith(".py") or (Path(config.backbone).is_file() and not run.has_network_file()):
        return config
    return replace(config, backbone=str(run.network_file()))


def begin_fold(config: TrainConfig, run: Run, number: int, data: FoldData) -> None:
    """Empty the fold's folder and write its fold.json; copy a network file into the run.

    Raises InputError if the folder holds what was trained but no record of it.
    """
    paths = run.paths.fold(number)
    if not config.freeze_backbone:  # a linear probe is trained again in a minute
        for path in (paths.state, paths.last, paths.log, paths.oof):  # a kill in the first save leaves the best weights
            if path.exists():
                raise InputError(
                    f"{path}: was trained, but {paths.record.name} is lost and last.pt too, so it cannot be used; move "
                    "it away, or use --restart"
                )
    backbone = Path(config.backbone)
    shutil.rmtree(paths.folder, ignore_errors=True)
    if backbone.suffix == ".py" and not run.has_network_file():
        write_bytes(run.folder / backbone.name, backbone.read_bytes())
    if run.keeps_weights and config.weights and config.weights.is_file():
        write_bytes(run.folder / config.weights.name, config.weights.read_bytes())
    if data.pseudo:
        data.pseudo.write(paths)
    record = fold_record(config, run, number, data)
    if config.start_from:
        record = replace(record, started_from=starting_fold(config, number)[1].result.weights_sha256)
    write_record(paths.record, record)


def fold_record(config: TrainConfig, run: Run, number: int, data: FoldData) -> FoldRecord:
    """Return what fold.json says of a fold that is not trained yet."""
    return FoldRecord(
        run=run.started_record,
        fold=number,
        num_train=data.train.num_images,
        num_val=len(data.val.rows),
        in_blocks=data.train.in_blocks,
        given={name: str(value) for name in HASHED if (value := getattr(config, name)) is not None},
        versions=versions(),
    )
