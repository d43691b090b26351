"""One fold's training: assemble the parts, start or resume, then predict the held-out images."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
from torch import nn

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.locking import locked
from src.core.progress import followed_by
from src.core.records import write_record
from src.core.runtime import Compute, to_device
from src.core.world import check_same
from src.core.writing import sha256_of, write_arrays
from src.data.loader import Batches
from src.inference.predictor import Predictor
from src.inference.views import AUTO, candidates
from src.metrics import direction, goodness, score_of
from src.models.contract import check_takes, linear_last_layer
from src.models.network import Network
from src.runs.fold import TrainedFold, origin_of
from src.runs.paths import FoldPaths
from src.runs.ranks import check_batch
from src.runs.record import FoldResult, readable_run
from src.runs.run import Run, open_run
from src.training.beginning import begin_fold, fold_record, run_record, with_own_network
from src.training.changes import check_unchanged
from src.training.features import FeatureStore
from src.training.fold_data import FoldData, open_data
from src.training.linear_probe import LinearProbe, serve_features, with_linear_probe
from src.training.loading import choose_device_cache
from src.training.logs import Logs, training_of
from src.training.pseudo_labels import pseudo_labels
from src.training.resume import lost_record, saved_fold
from src.training.setup import make_network, make_state
from src.training.sinks import open_sinks
from src.training.starting import start_from
from src.training.status import Status
from src.training.time_left import TimeLeft
from src.training.trainer import OnEpoch, Trainer
from src.training.wrapping import unwrapped, wrap


def train_fold(
    config: TrainConfig,
    run: Run,
    remaining: list[int],
    compute: Compute,
    on_epoch: OnEpoch = lambda history: False,
    status: Status | None = None,
) -> tuple[Run, FoldResult]:
    """Train, resume or repair the first of the folds that this command has still to do; return the run, now begun.

    Raises InputError if another process is training it, and whatever `on_epoch` raises.
    """
    number, world = remaining[0], compute.world
    paths = run.paths.fold(number)
    with ExitStack() as stack:
        world.on_main(lambda: stack.enter_context(locked(paths.folder, f"is training {paths.folder.name}")))
        run = world.together(lambda: _begun_meanwhile(config, run))
        lost = world.together(lambda: lost_record(config, run, number))
        saved = None if lost else world.together(lambda: saved_fold(config, run, number))
        if saved and saved.record.result and saved.weights_fit() and saved.oof_fits():
            print(
                f"fold {number}: already trained, score {saved.result.score:.4f} ({paths.folder}); "
                "--restart trains it again"
            )
            return run, saved.result
        pseudo = pseudo_labels(config, run, number, compute, bool(saved or lost))
        data = world.together(lambda: open_data(config, run, number, compute, saved, pseudo))
        check_same(world, {"shuffled in blocks, for lack of memory": data.train.in_blocks})
        world.together(lambda: check_batch(config, world, data.train.num_images))
        if lost:  # written again: the checkpoint says that it is of this run and fold
            print(f"{paths.record}: is {lost}, and is made again from the checkpoint")
            world.on_main(lambda: write_record(paths.record, fold_record(config, run, number, data)))
            saved = run.open_fold(number)
        network = world.together(lambda: _open_network(config, run, number, data, saved, compute))
        trained = world.together(lambda: wrap(network, config, run.competition, data.train.image_size))
        if not saved:  # all checks have passed: an old folder may be deleted
            run = world.main_first(lambda: run.begin(run_record(config, run, data, network)))
            world.on_main(lambda: begin_fold(config, run, number, data))
        if status and world.is_main:
            status.follow(paths.folder)
        predictor = Predictor(competition=run.competition, compute=compute, view_names=config.views)
        folds_after = sum(not run.has_result(other) for other in remaining[1:])
        if saved and saved.record.result and saved.weights_fit():
            print(f"fold {number}: {paths.oof} is missing or damaged, and is made again")
            return run, _finish(run, number, saved.result, data, predictor, folds_after)
        trainer = _make_trainer(config, run, paths, data, network, trained, predictor, folds_after)
        trainer.on_epoch = on_epoch
        if saved:
            world.together(trainer.resume)
            if saved.record.result:  # the weights to come need not be the same to the bit
                world.on_main(lambda: write_record(paths.record, replace(saved.record, result=None)))
            print(f"fold {number}: resumes after epoch {len(trainer.history)}, step {trainer.progress.step}")
        with Logs(open_sinks(config.log, training_of(run, number)) if world.is_main else {}) as logs:
            trainer.on_rows = logs.write
            trainer.run()
        return run, _finish(run, number, _result(trainer), data, predictor, folds_after)


def _begun_meanwhile(config: TrainConfig, run: Run) -> Run:
    """Return the run as another process has begun it since this one started. Raises InputError for other settings."""
    if run.record or readable_run(run.folder) is None:
        return run
    run = open_run(config, run.name, run.staged)
    check_unchanged(config, run)
    return run


def _open_network(
    config: TrainConfig, run: Run, number: int, data: FoldData, saved: TrainedFold | None, compute: Compute
) -> Network:
    own = with_own_network(config, run) if run.record else config
    network = make_network(own, run.competition, data.train.image_size, saved is not None, data.train.levels)
    if config.start_from and not saved:
        start_from(network.backbone, config, run, number)
    if config.freeze_backbone:
        linear_last_layer(network.backbone, "--freeze-backbone")
    if config.progressive_resize < 1:
        for seen in sorted({data.train.size_at(epoch) for epoch in range(config.epochs)}):
            check_takes(network.backbone, config.backbone, (run.competition.channels, *seen), run.competition.layout)
    size = data.train.image_size
    for view in candidates(config.views, run.competition, size).values():
        if isinstance(view, tuple):
            check_takes(network.backbone, config.backbone, (run.competition.channels, *view), run.competition.layout)
    to_device(network, compute)
    return network


def _make_trainer(
    config: TrainConfig,
    run: Run,
    paths: FoldPaths,
    data: FoldData,
    network: Network,
    trained: nn.Module,
    predictor: Predictor,
    folds_after: int,
) -> Trainer:
    compute, started = predictor.compute, time.perf_counter()
    plain = Predictor(competition=run.competition, compute=compute, tta=False)
    score: Callable[[nn.Module], float] = partial(plain.score, loader=data.val)
    if config.freeze_backbone:
        trained = LinearProbe(network, config.dropout)
        served: Batches
        settings, cache = run.started_record.train, run.prepared.cache_file("train", data.cache_size)
        store = FeatureStore(cache=cache, network=f"{settings.backbone} {settings.backbone_options}")
        served, score = serve_features(network, data.train, data.val, run.competition, compute, store)
    else:
        served = choose_device_cache(config, data.train, compute)
    return Trainer(
        paths=paths,
        origin=origin_of(run.started_record, paths.number),
        settings=config.settings,
        state=make_state(config, trained.to(compute.device), compute, run.competition.pad_class),
        loader=served,
        layout=run.competition.layout,
        compute=compute,
        evaluate=score,
        goodness=partial(goodness, competition=run.competition),
        full_model=partial(with_linear_probe, network) if config.freeze_backbone else unwrapped,
        unit="features" if config.freeze_backbone else "images",
        profile=config.profile,
        save_every=config.save_every,
        time_left=TimeLeft(
            epochs=config.epochs,
            folds_after=folds_after,
            num_views=len(predictor.views(data.val.image_size)),
            val_share=len(data.val.rows) / max(1, data.train.num_images),
            sizes=tuple(map(data.train.size_at, range(config.epochs))) if config.progressive_resize < 1 else (),
        ),
        seconds_before=time.perf_counter() - started,  # such as computing features
    )


def _result(trainer: Trainer) -> FoldResult:
    """Return how a training ended; scores and hashes are not known yet."""
    history = trainer.history
    return FoldResult(
        score=math.nan,
        score_tta=math.nan,
        epochs=len(history),
        seconds=sum(row["seconds"] for row in history) + trainer.seconds_before,
        images_per_second=float(np.median([row["images_per_second"] for row in history])),
        weights_sha256="",
        oof_sha256="",
    )


def _finish(
    run: Run, number: int, result: FoldResult, data: FoldData, predictor: Predictor, folds_after: int
) -> FoldResult:
    """Predict the held-out images with the kept weights; write oof.npz, then the result into fold.json."""
    world = predictor.compute.world
    fold = world.together(lambda: run.open_fold(number))
    network = to_device(world.together(lambda: run.load_network(fold)), predictor.compute)
    name, each = f"fold {number}, held-out images", None
    with followed_by(lambda stage: folds_after * (result.seconds + stage)):
        if AUTO in predictor.view_names:
            each = predictor.predict_each(network, data.val, name)
            plain, mean = each[0], each.mean(axis=0)
        else:
            plain, mean = predictor.predict(network, data.val, name)
    if not np.isfinite(mean).all():
        raise InputError(f"{fold.weights_file}: predicts values that are not finite; train with a smaller --lr")
    scores = [score_of(values, data.val.targets, run.competition) for values in (plain, mean)]
    result = replace(result, score=scores[0], score_tta=scores[1])
    result = world.on_main(lambda: _keep_predictions(run, fold, result, data, predictor, plain, mean, each))
    print(
        f"fold {number}: score {scores[0]:.4f}, with test-time views {scores[1]:.4f}{direction(run.competition)}; "
        f"{fold.paths.folder}"
    )
    print(f"fold {number}: SHA-256 of the weights {result.weights_sha256[:16]}")
    return result


def _keep_predictions(
    run: Run,
    fold: TrainedFold,
    result: FoldResult,
    data: FoldData,
    predictor: Predictor,
    plain: np.ndarray,
    mean: np.ndarray,
    each: np.ndarray | None,
) -> FoldResult:
    """Write oof.npz and fold.json; return the result with the hashes of weights and predictions."""
    views = list(predictor.views(data.val.image_size))
    order = np.argsort(data.val.numbers_of(data.val.rows))  # that of the labels, also if blocks were read in theirs
    belongs = {**fold.origin, "snapshot": run.prepared.id, "views": views, "precision": str(predictor.compute.dtype)}
    write_arrays(
        fold.paths.oof,
        image_path=np.array(list(data.val_paths), dtype=str)[order],
        probabilities=plain[order],
        probabilities_tta=mean[order],
        **({} if each is None else {"each": each[:, order]}),
        **{name: np.array(value) for name, value in belongs.items()},
    )
    result = replace(result, weights_sha256=sha256_of(fold.weights_file), oof_sha256=sha256_of(fold.paths.oof))
    fold.finish(result)
    return result
