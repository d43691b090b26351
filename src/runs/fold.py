"""The files of one fold of a run, and what each is checked against when it is read."""

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from src.core.errors import InputError
from src.core.records import seal_of, write_record
from src.core.writing import sha256_of
from src.runs.checkpoint import has_state, load_model
from src.runs.paths import FoldPaths
from src.runs.record import FoldRecord, FoldResult, RunRecord


def origin_of(run: RunRecord, number: int) -> dict[str, str | int]:
    """Return what the files of a fold say of where they belong."""
    return {"run": seal_of(run), "fold": number}


@dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """One fold that was started: its files and its fold.json."""

    paths: FoldPaths
    record: FoldRecord
    train_command: str  # that makes damaged files again, from the last checkpoint if it can

    @property
    def number(self) -> int:
        return self.record.fold

    @property
    def image_size(self) -> tuple[int, int]:
        return self.record.run.model.image_size

    @property
    def origin(self) -> dict[str, str | int]:
        """What its checkpoints and predictions say of where they belong."""
        return origin_of(self.record.run, self.number)

    @property
    def weights_file(self) -> Path:
        return self.paths.best if self.record.run.train.keep == "best" else self.paths.last

    @property
    def result(self) -> FoldResult:
        """How its training ended. Raises InputError if it has not."""
        if self.record.result is None:
            raise InputError(f"{self.paths.folder}: is not trained to its end; run {self.train_command} again")
        return self.record.result

    @property
    def repair(self) -> str:
        """What makes damaged weights or predictions again."""
        if self.weights_file == self.paths.last and has_state(self.paths.state):
            return f"run {self.train_command}, which makes it again from the last checkpoint"
        return f"run {self.train_command} --restart"

    def weights_fit(self) -> bool:
        """Return whether the weights are there and those that this fold ended with."""
        return self.weights_file.is_file() and sha256_of(self.weights_file) == self.result.weights_sha256

    def load(self, network: nn.Module) -> nn.Module:
        """Load this fold's weights. Raises InputError if they are missing, or not those that it ended with."""
        expected = self.record.result.weights_sha256 if self.record.result else None
        return load_model(self.weights_file, network, self.repair, expected).eval()

    def oof_fits(self) -> bool:
        """Return whether oof.npz is there and as it was written."""
        return self.paths.oof.is_file() and sha256_of(self.paths.oof) == self.result.oof_sha256

    def oof(self) -> dict[str, np.ndarray]:
        """Return image_path (N,), probabilities and probabilities_tta (N, num_outputs); with --views auto each (V, N,
        num_outputs), and views, their names.

        Raises InputError if the file is missing or not the one that this fold ended with.
        """
        path = self.paths.oof
        repair = f"run {self.train_command}, which makes it again"
        expected = self.result.oof_sha256
        if not path.is_file():
            raise InputError(f"{path}: not there; {repair}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise InputError(
                f"{path}: is damaged, edited or of another fold (its SHA-256 is not the one in fold.json); {repair}"
            )
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                names = ("image_path", "probabilities", "probabilities_tta")
                of_views = {name: arrays[name] for name in ("each", "views") if "each" in arrays}
                return {name: arrays[name] for name in names} | of_views
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: is damaged ({error}); {repair}") from error

    def finish(self, result: FoldResult) -> None:
        """Write the result into fold.json: the fold is trained to its end from then on."""
        write_record(self.paths.record, replace(self.record, result=result))
