"""Resume: load the saved record and refuse changed settings."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from src.config import TrainConfig, TrainSettings
from src.core.errors import InputError
from src.core.writing import sha256_of
from src.runs.record import FoldRecord
from src.runs.run import Run


def settings_of(config: TrainConfig, saved: FoldRecord | None) -> tuple[TrainSettings, str | None]:
    """Return what is trained, for config.json: the settings without paths, and the name and hash of --weights.

    If a file is gone, a resumed training keeps what was `saved`: it does not need the file any more.
    """
    settings = replace(config.settings, weights=None, backbone=_backbone_of(config, saved))
    if config.weights is None:
        return settings, None
    if config.weights.is_file():
        return settings, f"{config.weights.name} {sha256_of(config.weights)[:12]}"
    if saved and saved.weights and saved.weights.startswith(f"{config.weights.name} "):
        return settings, saved.weights
    raise InputError(f"--weights {config.weights}: no such file")


def _backbone_of(config: TrainConfig, saved: FoldRecord | None) -> str:
    """Return --backbone; of a .py file its name and hash, so that an edited one is told from what was trained."""
    path = Path(config.backbone)
    if path.suffix != ".py":
        return config.backbone
    if path.is_file():
        return f"{path.name} {sha256_of(path)[:12]}"
    if saved and saved.train.backbone.startswith(f"{path.name} "):
        return saved.train.backbone
    raise InputError(f"--backbone {path}: no such network file")


def saved_record(config: TrainConfig, run: Run, number: int) -> FoldRecord | None:
    """Return the record of a training to resume, or None if there is none."""
    paths = run.fold_paths(number)
    finished = paths.oof.exists()
    if finished and not config.restart and paths.config.exists():
        record = run.open_fold(number).record
        if record.result:  # nothing is left to do, even if its checkpoint was deleted
            return record
    # A linear probe trains in a minute; its checkpoint does not hold the backbone that resuming would need.
    if config.restart or not run.can_resume(number) or (config.freeze_backbone and not finished):
        if config.resume:
            raise InputError(f"--resume: {paths.folder} holds no checkpoint to resume from; leave the flag out")
        return None
    return run.open_fold(number).record


def _flat(settings: TrainSettings) -> dict[str, Any]:
    values = asdict(settings)
    return values | {f"augment.{name}": value for name, value in values.pop("augment").items()}


def check_unchanged(saved: FoldRecord, settings: TrainSettings, weights: str | None, run: Run) -> None:
    """Raise InputError naming each setting that differs from those the training started with."""
    then = _flat(saved.train) | {"weights": saved.weights}
    now = _flat(settings) | {"weights": weights}
    changed = [f"{name}: {then[name]} then, {value} now" for name, value in now.items() if then[name] != value]
    if changed:
        raise InputError(
            f"{run.fold_paths(saved.fold).folder}: was started with other settings ({'; '.join(changed)}); "
            "use --run-name NAME or --restart"
        )


def _remove_other_folds(run: Run, numbers: list[int]) -> set[int]:
    """Delete the run's folds that folds.csv no longer has; return their numbers."""
    gone = [paths for paths in run.started_folds() if paths.number not in numbers]
    for paths in gone:
        print(f"fold {paths.number}: deleted, as folds.csv has no such fold any more ({paths.folder})")
        shutil.rmtree(paths.folder)
    return {paths.number for paths in gone}


def check_run(config: TrainConfig, run: Run, numbers: list[int]) -> None:
    """Raise InputError if the run's other folds were trained with other settings, folds.csv or labels.csv.

    `numbers` are the folds to train; with --restart they start over, so only the others count.
    """
    restarted = set(numbers) if config.restart else set()
    if config.restart and config.fold == "all":
        restarted |= _remove_other_folds(run, numbers)
    kept = [paths for paths in run.started_folds() if paths.number not in restarted]
    hint = "choose another name with --run-name, prepare as before, or train all folds with --restart"
    if kept and (not run.folds_file.is_file() or sha256_of(run.folds_file) != sha256_of(run.prepared.folds_file)):
        raise InputError(f"{run.folds_file}: this run was started with other folds than there are now; {hint}")
    labels = sha256_of(run.prepared.labels_file)
    for paths in kept:
        record = run.open_fold(paths.number).record
        if record.data.labels_sha256 != labels:
            raise InputError(f"{paths.config}: this fold was trained on other labels than there are now; {hint}")
        if paths.number not in numbers:  # the folds to train are checked when they resume
            check_unchanged(record, *settings_of(config, record), run)
