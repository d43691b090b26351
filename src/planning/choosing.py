"""The first two stages of auto: prepare, and choose what is trained."""

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from src.core.errors import InputError
from src.core.progress import minutes
from src.core.records import read_record
from src.data.prepared import open_prepared
from src.planning.looking import can_probe, data_of, describe, flags_of_recipe, measure_all, start_of
from src.planning.plan import MARGIN, MAX_PROBE_SHARE, Choice, Data, Rates, choose, probe_epochs, probe_seconds
from src.planning.recipes import PROBE, Recipe
from src.planning.record import AutoRecord
from src.planning.work import Work

HOLDOUT = "--split holdout"


def prepare(work: Work) -> None:
    """Prepare with the default flags, or take what the user has prepared. Raises InputError if prepare fails."""
    record = work.record
    if record.is_planned:
        return
    if not (work.root / "prepared" / "current.json").exists():
        work.command("prepare", *work.paths)
        return
    prepared = open_prepared(work.config)
    flags, size = prepared.snapshot.flags.strip(), prepared.image_size
    sized = "" if size == prepared.competition.image_size else f"--image-size {size[0]} {size[1]}"
    if flags == HOLDOUT and _is_autos(work.root):
        work.command("prepare", *work.paths, *sized.split())
        flags = ""
    record.own_folds, record.prepare_flags = bool(flags), f"{flags} {sized}".strip()
    if record.prepare_flags:
        what = "these folds are used" if flags else "this size is used"
        work.clock.tell(f"prepared already with {record.prepare_flags}: {what}", record.looked_at)


def _is_autos(root: Path) -> bool:
    """Return whether an earlier auto may have held out one part of the images, and not the user."""
    for file in root.glob("*.json"):
        with suppress(InputError):
            record = read_record(file, AutoRecord, "", "")
            if HOLDOUT in record.prepare_flags and not record.own_folds:
                return True
    return False


def plan(work: Work) -> None:
    """Look at the data, measure, choose, and keep the choice. Raises InputError if the time is too short."""
    prepared, record, clock = open_prepared(work.config), work.record, work.clock
    data = data_of(prepared, may_hold_out=not record.own_folds)
    clock.tell(describe(data, prepared), record.looked_at)
    size, competition = prepared.image_size, prepared.competition
    start = start_of(work.config, competition, size, clock)
    measured = measure_all(work.config, competition, size, start, data, clock)
    flips = competition.hflip_ok if start == "photos" and can_probe(work.config, competition, size) else None
    probe = _cheap_probe(measured, data, flips, MAX_PROBE_SHARE * clock.left)
    choice = _choice(measured, data, flips, clock.left - probe.seconds) if probe else None
    if choice is None or choice.recipe.is_probe:
        probe, choice = None, _choice(measured, data, flips, clock.left)
    if choice is None or choice.seconds > clock.left:
        epoch = data.num_images / measured[-1][1].train / 60
        raise InputError(
            f"--minutes {work.config.minutes:g}: an epoch takes about {epoch:.1f} minutes on this machine, and nothing "
            "quicker fits; give more time"
        )
    if choice.folds == 1 and data.holdout_size:
        record.prepare_flags = f"{HOLDOUT} {record.prepare_flags}".strip()  # more images to train on, fewer to score
        clock.tell(f"prepared with {HOLDOUT}; for folds in later trainings, prepare again", record.looked_at)
        work.command("prepare", *work.paths, *shlex.split(record.prepare_flags))
    record.flags = _flags(work, choice, size)
    record.epochs, record.planned_folds, record.predict_rate = choice.epochs, choice.folds, choice.rates.predict
    record.views, record.most_epochs = choice.views, choice.most_epochs
    if probe:
        record.probe = f"{work.config.run_name}-probe"
        record.probe_flags = _flags(work, probe, size) | {"epochs": str(probe.epochs)}
    record.runs = [work.config.run_name]
    clock.tell(f"chosen: {choice.recipe.name}; {choice.reason}", record.reasons)
    if choice.views == 1 < data.num_views:
        clock.tell("the plain image only: there is no time to answer from several views", record.reasons)
    if probe:
        clock.tell(f"a linear probe beside it, in case it is better: about {probe.seconds:,.0f} s", record.reasons)
    elif start == "photos" and not choice.recipe.is_probe:
        long = f"it would take more than {MAX_PROBE_SHARE:.0%} of the time"
        why = long if flips is not None else f"{work.config.backbone} does not end in one linear layer"
        clock.tell(f"no linear probe beside it: {why}", record.reasons)
    clock.tell(f"time: {minutes(clock.used)} used, {minutes(clock.left)} left", record.reasons)


def _flags(work: Work, choice: Choice, size: tuple[int, int]) -> dict[str, str]:
    views = {"views": "original"} if choice.views == 1 else {}
    return flags_of_recipe(work.config, choice.recipe, size, open_prepared(work.config).competition) | views


def _choice(measured: list[tuple[Recipe, Rates]], data: Data, flips: bool | None, left: float) -> Choice | None:
    """Return what is trained: with all views, or the plain image; else a linear probe; else what fits at all.

    `flips`: whether images are flipped, None without a network of photos.
    """
    plain = replace(data, num_views=1)
    found = choose(measured, data, left) or choose(measured, plain, left)
    probe = None if found else _cheap_probe(measured, data, flips, MARGIN * left)
    if probe:
        folds = max(1, min(data.num_folds, int(MARGIN * left / probe.seconds)))
        why = f"no training sees enough images in {minutes(left)}; a probe takes {probe.seconds:,.0f} s a fold"
        found = replace(probe, folds=folds, seconds=folds * probe.seconds, reason=why)
    return found or choose(measured, plain, left, at_all=True)


def _cheap_probe(measured: list[tuple[Recipe, Rates]], data: Data, flips: bool | None, seconds: float) -> Choice | None:
    """Return a linear probe on one fold within the seconds, at the largest image size that allows it, or None."""
    if flips is None:
        return None
    for recipe, rates in measured:
        if "backbone" in recipe.flags:  # another network's speed
            continue
        for views in (data, replace(data, num_views=1)):
            needed = probe_seconds(views, rates, flips)
            if needed < seconds:
                return Choice(
                    recipe=replace(PROBE, shorter=recipe.shorter), rates=rates, epochs=probe_epochs(data), folds=1,
                    views=views.num_views, seconds=needed, reason="",
                )  # fmt: skip
    return None
