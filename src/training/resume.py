"""Resume: load the saved config and refuse changed settings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.writing import sha256_of
from src.runs.checkpoint import has_state
from src.runs.run import open_fold

# Flags that do not change what is trained.
FREE_FLAGS = (
    "competition", "input_dir", "runs_dir", "submissions_dir", "fold", "resume", "restart", "num_threads", "device",
    "profile", "cache_on_device", "save_every",
)  # fmt: skip


def settings_of(config: TrainConfig, saved: dict[str, Any]) -> dict[str, Any]:
    """Return what is trained, for config.json. Weights are named by their hash, or as `saved` has them where their file
    has gone since: what is begun does not need it any more."""
    settings = {key: value for key, value in asdict(config).items() if key not in FREE_FLAGS}
    if config.weights:
        known = str(saved.get("weights") or "")
        if config.weights.is_file():
            settings["weights"] = f"{config.weights.name} {sha256_of(config.weights)[:12]}"
        elif known.startswith(f"{config.weights.name} "):
            settings["weights"] = known
        else:
            raise InputError(f"--weights {config.weights}: no such file")
    return json.loads(json.dumps(settings))


def saved_config(config: TrainConfig, folder: Path, competition: Competition) -> dict[str, Any]:
    """Return config.json of a training to go on with, or {} where there is none."""
    unfinished = not (folder / "oof.npz").exists()
    # A last layer is trained in a minute; its checkpoint does not hold the backbone that going on would need.
    if config.restart or not has_state(folder / "last.pt") or (config.freeze_backbone and unfinished):
        if config.resume:
            raise InputError(f"--resume: {folder} holds no checkpoint to resume from; leave the flag out to begin")
        return {}
    return open_fold(folder, competition).config


def check_unchanged(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise InputError naming each setting that differs from those a training was begun with."""
    unlike = [f"{key}: {saved.get(key)} then, {value} now" for key, value in now.items() if saved.get(key) != value]
    if unlike:
        raise InputError(
            f"{folder}: was begun with other settings ({'; '.join(unlike)}); use --run-name NAME or --restart"
        )
