"""A run: one snapshot and one set of settings, trained on its folds."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from src.competitions.registry import load_competition
from src.competitions.spec import Competition
from src.config import Paths
from src.core.errors import InputError
from src.core.flags import check_name, flags_of
from src.core.locking import locked
from src.core.records import read_record, seal_of, write_record
from src.core.writing import sha256_of
from src.data.prepared import Prepared, command, open_snapshot
from src.models.build import build_model
from src.models.contract import find_backbone
from src.models.network import Network, Normalise
from src.runs.checkpoint import has_state
from src.runs.fold import TrainedFold
from src.runs.paths import RunPaths, run_names
from src.runs.record import HASH, HASHED, FoldRecord, ModelRecord, RunRecord, readable_run, run_in_file

RESTART = "--fold all --restart with the run's own flags"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a competition, bound to a snapshot; `record` is None until its first fold begins."""

    prepared: Prepared
    name: str
    record: RunRecord | None = None
    staged: bool = False  # whether this is the new one of --restart, beside the run that it will replace

    @property
    def started_record(self) -> RunRecord:
        """run.json, of a run that has begun."""
        assert self.record
        return self.record

    @property
    def id(self) -> str:
        return seal_of(self.started_record)

    @property
    def competition(self) -> Competition:
        return self.prepared.competition

    @property
    def paths(self) -> RunPaths:
        main = RunPaths(folder=self.prepared.root / self.name)
        return main.restart if self.staged else main

    @property
    def folder(self) -> Path:
        return self.paths.folder

    def command(self, name: str) -> str:
        """Return a command line for this run."""
        run = f" --run-name {shlex.quote(self.name)}" if self.name != "baseline" else ""
        return self.prepared.command(name) + run

    def train_command(self, number: int) -> str:
        """Return the command that trains a fold, with the run's own flags once it has begun."""
        flags = ""
        if self.record:
            teachers = tuple(HASH.sub("", name) for name in self.record.train.pseudo_labels)
            flags = flags_of(replace(self.record.train, **self._given(), pseudo_labels=teachers))
        return f"{self.command('train')} --fold {number}{flags}"

    def _given(self) -> dict[str, Any]:
        """Return the flags of files and other runs as the run's folds were given them; without a fold, their names."""
        for paths in self.paths.started_folds():
            try:
                record = read_record(paths.record, FoldRecord, "", "")
            except InputError:
                continue
            return record.given
        values = vars(self.started_record.train) | {"weights": self.started_record.weights}
        return {name: HASH.sub("", values[name]) for name in HASHED if values[name] is not None}

    def begin(self, record: RunRecord) -> "Run":
        """Write run.json if this is the run's first fold; return the run that has begun.

        Raises InputError if it began with another snapshot or other settings.
        """
        with locked(self.folder, "is beginning this run", wait=True):
            known = readable_run(self.folder)
            if known not in (None, record) or self.record not in (None, record):
                raise InputError(
                    f"{self.paths.record}: this run began with another snapshot, network or other settings; use "
                    "--run-name NAME, or --restart with --fold all"
                )
            if run_in_file(self.folder) != record:  # new, lost or damaged
                write_record(self.paths.record, record)
            if not self.prepared.folder.exists():
                raise InputError(f"{self.prepared.folder}: was deleted meanwhile; run {self.prepared.command()} again")
        return replace(self, record=record)

    def open_fold(self, number: int) -> TrainedFold:
        """Open a fold that was started. Raises InputError if it is missing, damaged, or of another run or fold."""
        paths = self.paths.fold(number)
        train = self.train_command(number)
        repair = f"{train} --restart" if not has_state(paths.state) else f"{train}, which makes it from the checkpoint"
        record = read_record(paths.record, FoldRecord, f"run {train} first", f"run {repair}")
        if record.run != self.started_record:
            raise InputError(
                f"{paths.record}: belongs to another run, or --restart is replacing this one; put the run's own folder "
                f"back, or run {train} --restart"
            )
        if record.fold != number:
            raise InputError(f"{paths.record}: belongs to fold {record.fold}, not {number}; delete {paths.folder}")
        return TrainedFold(paths=paths, record=record, train_command=train)

    def has_result(self, number: int) -> bool:
        """Return whether a fold of this run is trained to its end."""
        try:
            return self.open_fold(number).record.result is not None
        except InputError:
            return False

    def owns(self, number: int) -> bool:
        """Return whether a fold's folder was begun by this run."""
        try:
            return bool(self.open_fold(number))
        except InputError:
            return False

    def trained(self, numbers: tuple[int, ...] | None = None) -> list[TrainedFold]:
        """Open the finished folds, or the chosen ones. Raises InputError if there are none or one is missing."""
        existing = self.prepared.fold_numbers("all")
        for number in numbers or ():
            if number not in existing:
                raise InputError(f"--folds {number}: this run has folds {', '.join(map(str, existing))}")
        for paths in self.paths.folds():
            if paths.oof.exists() and not paths.record.exists():
                train = self.command("train")
                raise InputError(f"{paths.record}: is lost; run {train} with the run's own flags")
        for paths in self.paths.started_folds():
            if paths.number not in existing:
                raise InputError(f"{paths.folder}: its snapshot has no such fold; delete this folder")
        if numbers:
            folds = [self.open_fold(number) for number in sorted(set(numbers))]
        else:
            folds = [self.open_fold(paths.number) for paths in self.paths.started_folds()]
            folds = [fold for fold in folds if fold.record.result]
        if not folds and self.paths.restart.complete.exists():
            raise InputError(f"{self.folder}: --restart was stopped while it moved its folds; run that command again")
        if not folds:
            raise InputError(
                f"{self.folder}: no fold of this run is trained to its end; run {self.train_command(existing[0])} first"
            )
        for fold in folds:
            assert fold.result  # or InputError
        return folds

    def has_network_file(self) -> bool:
        """Return whether the run's copy of its own network file is the one that it began with."""
        copy = self.folder / self.started_record.model.backbone
        return copy.is_file() and self.started_record.train.backbone.endswith(f" {sha256_of(copy)[:12]}")

    def network_file(self) -> Path:
        """Return the run's copy of its own network file. Raises InputError if it is not the one it began with."""
        copy = self.folder / self.started_record.model.backbone
        if not self.has_network_file():
            raise InputError(f"{copy}: is not the network file that this run began with; put that one there")
        return copy

    def load_network(self, fold: TrainedFold) -> nn.Module:
        """Build the network and load the weights of a fold. Raises InputError."""
        model = self.started_record.model
        folder = self.network_file().parent if model.backbone.endswith(".py") else None
        weights = self.weights_copy() if self.keeps_weights else None
        return fold.load(build_network(model, folder, weights=weights))

    @property
    def keeps_weights(self) -> bool:
        """Whether the run has a copy of --weights, because its network is built from that file."""
        backbone = self.started_record.model.backbone
        return not backbone.endswith(".py") and find_backbone(backbone).takes_weights_file

    @property
    def copies(self) -> list[Path]:
        """Where its copies of the files lie that its network is built from."""
        if self.started_record.model.backbone.endswith(".py"):
            return [self.folder / self.started_record.model.backbone]
        return [self.folder / str(self.started_record.weights).rsplit(" ", 1)[0]] if self.keeps_weights else []

    def weights_copy(self) -> Path:
        """Return the run's copy of --weights. Raises InputError if it is not the file that it began with."""
        copy = self.copies[0]
        if not copy.is_file() or not sha256_of(copy).startswith(str(self.started_record.weights).rsplit(" ", 1)[1]):
            raise InputError(f"{copy}: is not the file that this run began with; put that one there")
        return copy


def run_folder(config: Paths, name: str) -> Path:
    """Return runs/<competition>/<name>."""
    return config.runs_dir / load_competition(config.competition).name / name


def known_runs(config: Paths) -> list[str]:
    """Return the names of this competition's runs."""
    return run_names(run_folder(config, "x").parent)


def open_run(config: Paths, name: str, staged: bool = False) -> Run:
    """Open a run that has begun, with the snapshot that it is bound to. Raises InputError."""
    check_name("run-name", name)
    folder = run_folder(config, name)
    run_name = f" --run-name {shlex.quote(name)}" if name != "baseline" else ""
    train = command(config, "train", run_name)
    if not folder.is_dir():
        if not (folder.parent / "prepared" / "current.json").exists():
            raise InputError(
                f"{folder}: no such run in {Path.cwd()}; run {command(config, 'prepare')} first, then {train}"
            )
        known = ", ".join(known_runs(config)) or "none, train one first"
        raise InputError(f"{folder}: no such run; there are: {known}")
    paths = RunPaths(folder=folder)
    file = paths.restart.record if staged else paths.record
    record = readable_run(file.parent)
    if record is None:
        record = read_record(file, RunRecord, f"run {train} first", f"run {train} {RESTART}")
    competition = load_competition(config.competition)
    if record.competition != competition.name:
        raise InputError(
            f"{file}: belongs to competition {record.competition!r}, not {competition.name!r}; move {folder} back"
        )
    if competition.heads and competition.heads != record.heads:
        raise InputError(
            f"{file}: was trained for {len(record.heads)} heads of "
            f"{', '.join(str(head.num_classes) for head in record.heads)} classes, which does not fit "
            f"{competition.name!r} as it is now"
        )
    for trait in ("hflip_ok", "pad_class", "moves_ok"):
        then, now = getattr(record, trait), getattr(competition, trait)
        if then != now:
            raise InputError(
                f"{file}: {trait} of {competition.name!r} was {then} when this run began and is {now} now; change it "
                f"back, or run {train} {RESTART}"
            )
    snapshot = folder.parent / "prepared" / record.snapshot
    if not snapshot.is_dir():
        raise InputError(
            f"{snapshot}: not there, but run {name} was trained on this snapshot; prepare with its images and flags "
            f"makes it again, {train} {RESTART} trains on the newest"
        )
    prepared = open_snapshot(config, record.snapshot, record.cache_size)
    return Run(prepared=prepared, name=name, record=record, staged=staged)


def build_network(model: ModelRecord, folder: Path | None = None, **options: object) -> Network:
    """Build the network that a record describes; a .py file of the user's own is taken from `folder`, its copy.

    `options` go to `build_model`. Raises InputError.
    """
    backbone = model.backbone
    if backbone.endswith(".py") and folder is not None:
        backbone = str(folder / Path(backbone).name)
    built = build_model(backbone, model.layout, model.image_size, len(model.mean), model.options, **options)  # type: ignore[arg-type]
    return Network(built, Normalise(model.mean, model.std, model.image_size[1], model.depth))
