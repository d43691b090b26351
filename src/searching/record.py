"""search.json: what a search was begun with, and what was reported of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.config import SearchConfig
from src.core.errors import InputError
from src.core.records import read_record, write_record
from src.data.prepared import Prepared, open_prepared, open_snapshot
from src.runs.record import Score

SHARED = ("space", "report_fold", "inner_folds", "scored_folds", "prune", "seed")  # flags that a search keeps


@dataclass(frozen=True, kw_only=True)
class Report:
    """The best and the default settings, trained without the reported fold and scored on it."""

    trial: int
    best_run: str
    default_run: str
    best: Score
    default: Score
    difference: Score  # greater is better, whatever the metric
    difference_95: Score  # half the width of the interval
    num_images: int


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """What a search was begun with; the same command resumes it."""

    snapshot: str
    image_size: tuple[int, int]  # of its cache
    inner: str  # the snapshot that trials see
    space: tuple[str, ...]
    report_fold: int
    inner_folds: int | None
    scored_folds: int
    prune: bool
    seed: int
    reports: tuple[Report, ...] = ()  # one for each time that the reported fold was looked at


def searched(file: Path, config: SearchConfig) -> Prepared:
    """Open the snapshot that a search was begun with, or the newest one for a new search. Raises InputError."""
    if not file.exists():
        return open_prepared(config)
    record = _read(file)
    _check_same(file, config, record, {name: getattr(config, name) for name in SHARED})
    return open_snapshot(config, record.snapshot, record.image_size)


def _read(file: Path) -> SearchRecord:
    return read_record(file, SearchRecord, "", f"use another --run-name, or delete {file.parent}")


def begin(file: Path, config: SearchConfig, prepared: Prepared, inner: str) -> SearchRecord:
    """Return the record of a search, written if it is new. Raises InputError if it was begun with other flags."""
    flags = {name: getattr(config, name) for name in SHARED}
    new = SearchRecord(snapshot=prepared.id, image_size=prepared.image_size, inner=inner, **flags)
    name = config.run_name
    if not file.exists():
        for path in (prepared.root / f"{name}-default", *prepared.root.glob(f"{name}-trial-*")):
            if path.is_dir():
                raise InputError(f"{path}: belongs to a search that is gone; {_anew(file, name)}")
        write_record(file, new)
        return new
    known = _read(file)
    _check_same(file, config, known, {name: getattr(new, name) for name in ("snapshot", "image_size", "inner")})
    return known


def _anew(file: Path, name: str) -> str:
    root = file.parents[2]
    return f"use another --run-name, or delete {file.parent}, and {name}-default and {name}-trial-… in {root}"


def _check_same(file: Path, config: SearchConfig, known: SearchRecord, values: dict[str, Any]) -> None:
    """Raise InputError, naming the first that differs, if a search was begun with other values."""
    for name, now in values.items():
        then = getattr(known, name)
        if then != now:
            flag = f"--{name.replace('_', '-')}" if name in SHARED else f"the {name}"
            raise InputError(
                f"{file}: this search was started with {flag} {then}, not {now}; {_anew(file, config.run_name)}"
            )


def add_report(file: Path, record: SearchRecord, report: Report) -> SearchRecord:
    """Write a report into the record; one of the same trial is replaced."""
    others = tuple(one for one in record.reports if one.trial != report.trial)
    record = replace(record, reports=(*others, report))
    write_record(file, record)
    return record
