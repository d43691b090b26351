"""The run directory: what a trained fold says about itself, and how its network is built again."""

import hashlib
import json
import platform
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from torch import nn

from src import __version__
from src.competitions.spec import Competition
from src.core.errors import InputError
from src.models.network import build_network
from src.runs.checkpoint import load_model


@cache
def code_version() -> str:
    """Return the version and a hash of the project's sources, so that any change of code is seen."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    """Return what a result depends on beside the code."""
    packages = {"torch": torch, "timm": timm, "numpy": np, "opencv": cv2}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found = {name: str(package.__version__) for name, package in packages.items()}
    found["albumentations"] = version("albumentations")  # importing it would ask the network for news
    return {"podium": code_version(), "python": platform.python_version(), **found, "gpu": gpu}


@dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """One fold's directory, opened."""

    folder: Path
    config: dict[str, Any]

    @property
    def number(self) -> int:
        return int(self.config["fold"])

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.config["model"]["image_size"]
        return height, width

    @property
    def weights_file(self) -> Path:
        return self.folder / f"{self.config['train']['keep']}.safetensors"

    def network(self) -> nn.Module:
        """Build the network and load its weights, from this directory alone. Raises InputError."""
        return load_model(self.weights_file, build_network(self.config["model"])).eval()

    def oof(self) -> dict[str, np.ndarray]:
        """Return image_path (N,), probabilities and probabilities_tta (N, sum of num_classes). Raises InputError."""
        path = self.folder / "oof.npz"
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in ("image_path", "probabilities", "probabilities_tta")}
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: not there, the fold is not trained to its end; run the same command again"
            ) from error
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: is damaged ({error}); train this fold again with --restart") from error


def open_fold(folder: Path, competition: Competition) -> TrainedFold:
    """Open a trained fold. Raises InputError if it is absent, unreadable or of another competition."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        heads = [(head["name"], tuple(head["classes"])) for head in config["heads"]]
        name = config["competition"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there; train this fold first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); train this fold again with --restart") from error
    if name != competition.name or heads != [(head.name, head.classes) for head in competition.heads]:
        raise InputError(
            f"{path}: was trained for competition {name!r} with {len(heads)} heads of "
            f"{', '.join(str(len(classes)) for _, classes in heads)} classes, which does not fit {competition.name!r}"
        )
    return TrainedFold(folder=folder, config=config)


def open_run(run_dir: Path, competition: Competition, folds: tuple[int, ...] | None) -> list[TrainedFold]:
    """Open a run's finished folds, or the chosen ones. Raises InputError if there are none or one is absent."""
    if not run_dir.is_dir():
        known = sorted(
            path.name for path in run_dir.parent.glob("*") if path.name != "prepared" and (path / "folds.csv").exists()
        )
        raise InputError(f"{run_dir}: no such run; there are: {', '.join(known) or 'none, train one first'}")
    numbers = (
        sorted(set(folds))
        if folds
        else sorted(
            int(path.parent.name[4:]) for path in run_dir.glob("fold*/oof.npz") if path.parent.name[4:].isdecimal()
        )
    )
    if not numbers:
        raise InputError(f"{run_dir}: no fold of this run is trained to its end; run python -m src.train first")
    trained = [open_fold(run_dir / f"fold{number}", competition) for number in numbers]
    for fold in trained:
        if "result" not in fold.config:
            raise InputError(f"{fold.folder}: is not trained to its end; give the same training command again")
    return trained
