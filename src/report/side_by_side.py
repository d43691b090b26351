"""The runs that compare puts side by side: scores, times, settings, curves, and each against the first."""

import math
from dataclasses import dataclass
from typing import Any

from src.competitions.registry import load_competition
from src.competitions.spec import check_has_answers
from src.config import CompareConfig
from src.core.errors import InputError
from src.core.progress import minutes
from src.inference.ensemble import OutOfFold, out_of_fold
from src.metrics import goodness
from src.report.intervals import interval_of
from src.report.paired import Difference, Pair, difference_of, pair_of
from src.runs.log import read_rows
from src.runs.run import Run, known_runs, open_run

ENVIRONMENT = ("podium", "torch", "gpu")  # of fold.json's versions


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run: its predictions if a fold is trained to its end, and the rows of log.csv of each fold that has begun."""

    run: Run
    oof: OutOfFold | None
    interval: tuple[float, float, str]
    num_trained: int
    num_folds: int
    seconds: float  # of training, all folds
    settings: dict[str, Any]
    curves: dict[int, list[dict[str, float | None]]]

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def time(self) -> str:
        return minutes(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Against:
    """A run against the first one."""

    side: Side
    pair: Pair | None
    difference: Difference | None
    why: str = ""  # there is no pair


def open_side(config: CompareConfig, name: str) -> Side:
    """Open a run. Raises InputError if it, or what it predicted, is missing or damaged."""
    run = open_run(config, name)
    started = [paths.number for paths in run.paths.started_folds()]
    trained, numbers = [number for number in started if run.has_result(number)], run.prepared.fold_numbers("all")
    oof = out_of_fold(run, None if trained == numbers else tuple(trained), config.tta) if trained else None
    curves = {number: read_rows(run.paths.fold(number).log) for number in started}
    seconds = 0.0
    for number in started:
        if number in trained:
            seconds += run.open_fold(number).result.seconds
        else:
            seconds += sum(row.get("seconds") or 0.0 for row in curves[number])
    versions = run.open_fold(started[0]).record.versions if started else {}
    return Side(
        run=run,
        oof=oof,
        interval=interval_of(oof) if oof else (math.nan, math.nan, ""),
        num_trained=len(trained),
        num_folds=len(numbers),
        seconds=seconds,
        settings=run.started_record.flat_settings() | {name: versions.get(name, "") for name in ENVIRONMENT},
        curves=curves,
    )


def open_sides(config: CompareConfig) -> tuple[list[Side], list[str]]:
    """Return the runs, the one that others are compared with first, and notes on runs that cannot be opened.

    Raises InputError for a run that was named and cannot be opened, and if there is none.
    """
    check_has_answers(load_competition(config.competition))
    if config.run_name:
        twice = [name for name in config.run_name if config.run_name.count(name) > 1]
        if twice:
            raise InputError(f"--run-name {twice[0]}: appears twice")
        return [open_side(config, name) for name in config.run_name], []
    sides, notes = [], []
    for name in known_runs(config):
        try:
            sides.append(open_side(config, name))
        except InputError as error:
            notes.append(f"{name} is skipped: {error}")
    if not sides:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{config.competition}: no run can be compared; train one first{reasons}")
    return sorted(sides, key=_rank), notes


def _rank(side: Side) -> tuple[bool, float, str]:
    """Return what runs are sorted by: scored ones first, the best of them first."""
    return side.oof is None, -goodness(side.oof.score, side.oof.competition) if side.oof else 0.0, side.name


def against_first(sides: list[Side]) -> list[Against]:
    """Compare each run but the first with it, on the images that both answered with the same labels."""
    first, found = sides[0], []
    for side in sides[1:]:
        pair: Pair | str
        if side.oof is None or first.oof is None:
            pair = "no fold is trained to its end"
        else:
            pair = pair_of(first.oof, side.oof)
        if isinstance(pair, str):
            found.append(Against(side=side, pair=None, difference=None, why=pair))
        else:
            found.append(Against(side=side, pair=pair, difference=difference_of(pair)))
    return found


def differing(sides: list[Side]) -> list[str]:
    """Return the settings that are not the same in all runs."""
    names = dict.fromkeys(name for side in sides for name in side.settings)
    return [name for name in names if len({repr(side.settings.get(name)) for side in sides}) > 1]


def table_of(sides: list[Side], others: list[Against]) -> list[dict[str, str]]:
    """Return the rows of the terminal's table."""
    rows, of_side = [], {one.side.name: one for one in others}
    for side in sides:
        score, low, high = (side.oof.score, *side.interval[:2]) if side.oof else (math.nan,) * 3
        one = of_side.get(side.name)
        rows.append(
            {
                "run": side.name,
                "folds": f"{side.num_trained}/{side.num_folds}",
                "images": f"{len(side.oof.target):,}" if side.oof else "",
                "score": f"{score:.4f}" if math.isfinite(score) else "undefined" if side.oof else "",
                "95% interval": f"{low:.4f} to {high:.4f}" if math.isfinite(low) else "",
                f"against {sides[0].name}": difference_text(one.difference) if one else "",
                "time": side.time,
            }
        )
    return rows


def _shown(value: Any) -> str:
    return "none" if value in ("", None) else str(value)


def settings_lines(sides: list[Side]) -> list[str]:
    """Return a line per run with the settings that are not the same in all runs."""
    names, width = differing(sides), max(len(side.name) for side in sides)
    shown = [" ".join(f"{name}={_shown(side.settings.get(name))}" for name in names) for side in sides]
    return [f"{side.name:{width}}  {text}" for side, text in zip(sides, shown, strict=True)] if names else []


def difference_text(difference: Difference | None) -> str:
    """Return +0.0123 (-0.0010 to +0.0250)."""
    if difference is None:
        return ""
    if not math.isfinite(difference.value):
        return "undefined"
    interval = f" ({difference.low:+.4f} to {difference.high:+.4f})" if math.isfinite(difference.low) else ""
    return f"{difference.value:+.4f}{interval}"
