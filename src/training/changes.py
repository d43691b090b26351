"""Whether a command's settings are those that a run began with."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from src.config import TrainConfig, TrainSettings
from src.core.errors import InputError
from src.core.flags import flat_values
from src.core.records import seal_of
from src.core.writing import sha256_of
from src.data.synthetic import font_files
from src.runs.record import RunRecord
from src.runs.run import Run, open_run


def settings_of(config: TrainConfig, saved: RunRecord | None) -> tuple[TrainSettings, str | None]:
    """Return what is trained, for run.json: the settings without paths, and the name and hash of --weights.

    If a file is gone, a resumed training keeps what was `saved`: it does not need the file any more.
    """
    settings = replace(
        config.settings,
        weights=None,
        backbone=_backbone_of(config, saved),
        start_from=config.start_from and _run_of(config, config.start_from, (saved.train.start_from,) if saved else ()),
        pseudo_labels=tuple(
            _run_of(config, name, saved.train.pseudo_labels if saved else ()) for name in config.pseudo_labels
        ),
        soft_labels=_file_of("soft-labels", config.soft_labels),
        fonts=_folder_of_fonts(config.fonts),
        suspects=_file_of("suspects", config.suspects),
    )
    if config.weights is None:
        return settings, None
    if config.weights.is_file():
        return settings, f"{config.weights.name} {sha256_of(config.weights)[:12]}"
    if saved and saved.weights and saved.weights.startswith(f"{config.weights.name} "):
        return settings, saved.weights
    raise InputError(f"--weights {config.weights}: no such file")


def _backbone_of(config: TrainConfig, saved: RunRecord | None) -> str:
    """Return --backbone; of a .py file its name and hash, so that an edited one is told from what was trained."""
    path = Path(config.backbone)
    if path.suffix != ".py":
        return config.backbone
    if path.is_file():
        return f"{path.name} {sha256_of(path)[:12]}"
    if saved and saved.train.backbone.startswith(f"{path.name} "):
        return saved.train.backbone
    raise InputError(f"--backbone {path}: no such network file")


def _file_of(flag: str, file: str | None) -> str | None:
    """Return name and hash of a file of labels, which a resumed training needs too."""
    if file is None:
        return None
    path = Path(file)
    if not path.is_file():
        raise InputError(f"--{flag} {path}: no such file")
    return f"{path.name} {sha256_of(path)[:12]}"


def _folder_of_fonts(folder: str | None) -> str | None:
    """Return name and hash of a folder's fonts, which a resumed training needs too."""
    if folder is None:
        return None
    hashes = "".join(map(sha256_of, font_files(Path(folder))))
    return f"{Path(folder).name} {hashlib.sha256(hashes.encode()).hexdigest()[:12]}"


def _run_of(config: TrainConfig, name: str, known: Iterable[str | None]) -> str:
    """Return another run's name and the hash of its record; if it is gone, as it is `known`."""
    try:
        return f"{name} {seal_of(open_run(config, name).started_record)[:12]}"
    except InputError:
        for text in known:
            if text and text.startswith(f"{name} "):
                return text
        raise


def changes(saved: RunRecord, settings: TrainSettings, weights: str | None) -> str:
    """Return what differs from the settings that a run began with, or nothing."""
    then = flat_values(saved.train) | {"weights": saved.weights}
    now = flat_values(settings) | {"weights": weights}
    return "; ".join(f"{name}: {then[name]} then, {value} now" for name, value in now.items() if then[name] != value)


def check_unchanged(config: TrainConfig, run: Run, why: str = "") -> None:
    """Raise InputError naming each setting that differs from those the run began with."""
    changed = changes(run.started_record, *settings_of(config, run.record))
    if changed:
        raise InputError(
            f"{run.folder}: {why}this run was started with other settings ({changed}); use --run-name NAME, or "
            "--restart --fold all"
        )
