"""What all stages of an auto share: its flags, record, clock and folder; the other commands, run as processes."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from src.config import AutoConfig
from src.core.cluster import python_path
from src.core.errors import InputError
from src.data.prepared import open_prepared
from src.planning.looking import data_of, path_parts
from src.planning.plan import COMMAND_SECONDS, Data
from src.planning.record import AutoRecord, Clock


@dataclass(frozen=True, kw_only=True)
class Work:
    """One auto."""

    config: AutoConfig
    record: AutoRecord
    clock: Clock
    root: Path  # runs/<competition>

    def command(self, name: str, *parts: str) -> None:
        """Run another command in a process of its own. Raises InputError if it fails."""
        ended = subprocess.run(
            [sys.executable, "-m", f"src.{name}", *parts], env={**os.environ, "PYTHONPATH": python_path()}, check=False
        )
        self.clock.save()
        if ended.returncode:
            raise InputError(f"{name} failed; see the lines above")

    def data(self) -> Data:
        """Return how many images there are in the folds that are prepared, answered from the planned views."""
        return replace(data_of(open_prepared(self.config)), num_views=self.record.views)

    def folds(self, numbers: list[int]) -> list[str]:
        """Return the flag that names these folds, or nothing if they are all."""
        complete = numbers == open_prepared(self.config).fold_numbers("all")
        return [] if complete else ["--folds", *map(str, numbers)]

    @property
    def paths(self) -> list[str]:
        return path_parts(self.config)

    def oof_seconds(self, data: Data) -> float:
        """Return the seconds of a fold's out-of-fold predictions."""
        return data.num_val(self.record.planned_folds) * data.num_views / self.record.predict_rate

    def predict_seconds(self, data: Data, folds: int, views: int) -> float:
        """Return the seconds of predict."""
        return folds * data.num_test * views / self.record.predict_rate + COMMAND_SECONDS
