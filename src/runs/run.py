"""A run: one set of settings trained on a competition's folds. Every path below its folder is named here."""

import shlex
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.records import read_record, write_record
from src.data.prepared import Prepared, read_table
from src.models.build import build_model
from src.models.network import Network, Normalise
from src.runs.checkpoint import has_state, load_model
from src.runs.record import FoldRecord, FoldResult, ModelRecord

RESTART = "--restart with the run's own flags"


@dataclass(frozen=True, kw_only=True)
class FoldPaths:
    """The files of one fold."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix("fold"))

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    @property
    def state(self) -> Path:
        """What training resumes from."""
        return self.folder / "last.pt"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def oof(self) -> Path:
        """Predictions for the held-out images; written last."""
        return self.folder / "oof.npz"

    @property
    def test(self) -> Path:
        """Predictions for the test images, kept to be used again."""
        return self.folder / "test.npz"


@dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """One fold that was started: its files and its config.json."""

    paths: FoldPaths
    record: FoldRecord
    train_command: str  # that repairs it

    @property
    def number(self) -> int:
        return self.record.fold

    @property
    def image_size(self) -> tuple[int, int]:
        return self.record.model.image_size

    @property
    def weights_file(self) -> Path:
        return self.paths.best if self.record.train.keep == "best" else self.paths.last

    @property
    def result(self) -> FoldResult:
        """How its training ended. Raises InputError if it has not."""
        if self.record.result is None:
            raise InputError(f"{self.paths.folder}: is not trained to its end; run the same training command again")
        return self.record.result

    def network(self) -> nn.Module:
        """Build the network and load its weights, from this folder alone. Raises InputError."""
        return load_model(self.weights_file, build_network(self.record.model, self.paths.folder)).eval()

    def oof(self) -> dict[str, np.ndarray]:
        """Return image_path (N,), probabilities and probabilities_tta (N, num_outputs). Raises InputError."""
        path = self.paths.oof
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                oof = {name: arrays[name] for name in ("image_path", "probabilities", "probabilities_tta")}
            shape = (len(oof["image_path"]), self.record.model.layout.num_outputs)
            if any(oof[name].shape != shape for name in ("probabilities", "probabilities_tta")):
                raise ValueError(f"not {shape[0]} rows of {shape[1]} probabilities")
            return oof
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: not there, the fold is not trained to its end; run the same training command again"
            ) from error
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path}: is damaged ({error}); run {self.train_command} --restart with the run's own flags"
            ) from error

    def finish(self, result: FoldResult) -> None:
        """Write the result into config.json."""
        write_record(self.paths.config, replace(self.record, result=result))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a prepared competition."""

    prepared: Prepared
    name: str

    @property
    def competition(self) -> Competition:
        return self.prepared.competition

    @property
    def folder(self) -> Path:
        return self.prepared.root / self.name

    @property
    def folds_file(self) -> Path:
        """The folds that this run was started with."""
        return self.folder / "folds.csv"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @cached_property
    def folds(self) -> pd.DataFrame:
        return read_table(self.folds_file, f"{self.command('train')} {RESTART}")

    def fold_paths(self, number: int) -> FoldPaths:
        return FoldPaths(folder=self.folder / f"fold{number}")

    def started_folds(self) -> list[FoldPaths]:
        """Return the folds that have a config.json, in order."""
        found = [FoldPaths(folder=path.parent) for path in self.folder.glob("fold*/config.json")]
        return sorted((paths for paths in found if paths.folder.name[4:].isdecimal()), key=lambda paths: paths.number)

    def command(self, name: str) -> str:
        """Return a command line for this run."""
        run = f" --run-name {shlex.quote(self.name)}" if self.name != "baseline" else ""
        return self.prepared.command(name) + run

    def train_command(self, number: int) -> str:
        """Return the command that trains a fold, without the flags of its settings."""
        return f"{self.command('train')} --fold {number}"

    def open_fold(self, number: int) -> TrainedFold:
        """Open a fold that was started. Raises InputError if it is missing, unreadable or of another competition."""
        paths, competition = self.fold_paths(number), self.competition
        train = self.train_command(number)
        record = read_record(paths.config, FoldRecord, f"run {train} first", f"run {train} {RESTART}")
        heads = record.heads
        if record.competition != competition.name or heads != competition.heads:
            raise InputError(
                f"{paths.config}: was trained for competition {record.competition!r} with {len(heads)} heads of "
                f"{', '.join(str(head.num_classes) for head in heads)} classes, which does not fit "
                f"{competition.name!r}"
            )
        return TrainedFold(paths=paths, record=record, train_command=train)

    def trained(self, numbers: tuple[int, ...] | None = None) -> list[TrainedFold]:
        """Open the finished folds, or the chosen ones.

        Raises InputError if there are none, one is missing, or they were not trained with the same settings.
        """
        if not self.folder.is_dir():
            known = ", ".join(self.known_names()) or "none, train one first"
            raise InputError(f"{self.folder}: no such run; there are: {known}")
        chosen = sorted(set(numbers or [paths.number for paths in self.started_folds() if paths.oof.exists()]))
        if not chosen:
            raise InputError(
                f"{self.folder}: no fold of this run is trained to its end; run {self.command('train')} first"
            )
        existing = sorted({int(number) for number in self.folds["fold"].dropna()})
        for number in chosen:
            if number not in existing:
                raise InputError(f"--folds {number}: this run has folds {', '.join(map(str, existing))}")
        folds = [self.open_fold(number) for number in chosen]
        first = folds[0]
        for fold in folds:
            assert fold.result  # or InputError
            if fold.record.trained_with != first.record.trained_with:
                raise InputError(
                    f"{fold.paths.config}: was trained with other settings than fold {first.number}; train one of them "
                    "again with the other's flags and --restart"
                )
        return folds

    def known_names(self) -> list[str]:
        """Return the names of this competition's runs."""
        return sorted(
            path.parent.name for path in self.prepared.root.glob("*/folds.csv") if path.parent.name != "prepared"
        )

    def can_resume(self, number: int) -> bool:
        return has_state(self.fold_paths(number).state)


def build_network(model: ModelRecord, folder: Path | None = None, **options: object) -> Network:
    """Build the network that a record describes; a .py file of the user's own is taken from `folder`, its copy.

    `options` go to `build_model`. Raises InputError.
    """
    backbone = model.backbone
    if backbone.endswith(".py") and folder is not None:
        backbone = str(folder / Path(backbone).name)
    built = build_model(backbone, model.layout, model.image_size, len(model.mean), model.options, **options)  # type: ignore[arg-type]
    return Network(built, Normalise(model.mean, model.std, model.image_size[1]))
