"""auto.json: what was looked at, measured and chosen, why, and how far it is; the clock that survives a kill."""

import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from src.config import AutoConfig
from src.core.errors import InputError
from src.core.records import read_record, write_record

GIVEN = ("weights", "backbone", "pretrained", "seed")  # flags


@dataclass(kw_only=True)
class AutoRecord:
    """Written after each stage and each epoch."""

    competition: str
    minutes: float
    given: dict[str, str] = field(default_factory=dict)  # the other flags that a resumed auto must have too
    seconds_used: float = 0.0
    own_folds: bool = False  # whether the snapshot was prepared with the user's flags
    prepare_flags: str = ""
    looked_at: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)  # of train, for the run
    probe_flags: dict[str, str] = field(default_factory=dict)
    epochs: int = 0
    most_epochs: int = 0  # that are of use
    planned_folds: int = 0
    views: int = 1  # of each image that is answered
    runs: list[str] = field(default_factory=list)  # that were trained; the last is the one that counts
    probe: str | None = None  # the run of the linear probe
    predict_rate: float = 0.0
    events: list[str] = field(default_factory=list)  # what did not go as planned
    folds_trained: list[int] = field(default_factory=list)
    longest_fold: float = 0.0  # seconds
    trained: bool = False  # whether no further fold is begun
    answered_by: str | None = None  # the run that made the submission
    score: float | None = None
    submission: str | None = None
    commands: list[str] = field(default_factory=list)  # that do the same

    @property
    def is_planned(self) -> bool:
        return bool(self.runs)


class Clock:
    """Counts the seconds of this and of earlier, killed processes against the budget."""

    def __init__(self, record: AutoRecord, file: Path, started: float) -> None:
        self.record, self.file = record, file
        self._started = started - record.seconds_used

    @property
    def used(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        return 60 * self.record.minutes - self.used

    def save(self) -> None:
        """Write auto.json with the time used so far."""
        self.record.seconds_used = round(self.used, 1)
        write_record(self.file, self.record)

    def tell(self, line: str, kept: list[str]) -> None:
        """Print a line and keep it in the record."""
        print(line, flush=True)
        kept.append(line)
        self.save()


def open_record(file: Path, config: AutoConfig, competition: str) -> AutoRecord:
    """Return the record of an auto that was begun, or a new one.

    Raises InputError for one that was begun with other flags, and for runs of that name without their record.
    """
    name, given = config.run_name, {flag: str(getattr(config, flag)) for flag in GIVEN}
    runs = [path.name for end in ("", "-probe", "-2", "-3") if (path := file.with_name(f"{name}{end}")).is_dir()]
    anew = f"use another --run-name, or delete {file} and its runs beside it ({', '.join(runs)})"
    if not file.exists():
        if runs:
            raise InputError(f"{file.with_name(runs[0])}: already exists and was not made by auto; use another "
                             f"--run-name, or delete it ({', '.join(runs)})")  # fmt: skip
        return AutoRecord(competition=competition, minutes=config.minutes, given=given)
    record = read_record(file, AutoRecord, "", anew)
    then = {"minutes": f"{record.minutes:g}", **record.given}
    for flag, value in {"minutes": f"{config.minutes:g}", **given}.items():
        if then.get(flag) != value:
            if not runs:  # nothing was trained: other flags, such as more minutes, are a new beginning
                return AutoRecord(competition=competition, minutes=config.minutes, given=given)
            raise InputError(f"{file}: was started with --{flag} {then.get(flag)}, not {value}; {anew}")
    return record


def script(commands: list[str], notes: list[str]) -> str:
    """Return a shell script of the commands that do the same."""
    lines = ["#!/usr/bin/env bash", "# Made by src.auto: the commands that do the same, without a limit of time."]
    lines += [f"# note: {note}" for note in notes]
    return "\n".join([*lines, "set -euo pipefail", *commands, ""])


def quoted(parts: list[str]) -> str:
    """Return a command line of `python -m` and these parts."""
    return "python -m " + shlex.join(parts)
