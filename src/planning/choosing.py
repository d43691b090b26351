"""The first two stages of auto: prepare, and choose what is trained."""

from src.core.errors import InputError
from src.core.progress import minutes
from src.data.prepared import open_prepared
from src.planning.looking import data_of, describe, flags_of_recipe, has_weights, measure_all
from src.planning.plan import MARGIN, MAX_PROBE_SHARE, Choice, Data, Rates, choose, probe_seconds
from src.planning.recipes import PROBE
from src.planning.work import Work

HOLDOUT = "--split holdout"
PROBE_EPOCHS = 24


def prepare(work: Work) -> None:
    """Prepare with the default flags, or take what the user has prepared. Raises InputError if prepare fails."""
    record, flags = work.record, None
    if record.is_planned:
        return
    if (work.root / "prepared" / "current.json").exists():
        flags = open_prepared(work.config).snapshot.flags.strip()
    if flags in (None, HOLDOUT):  # an earlier auto's, perhaps
        work.command("prepare", *work.paths)
    elif flags:
        record.own_folds, record.prepare_flags = True, flags
        work.clock.tell(f"prepared already with {flags}: these folds are used", record.looked_at)


def plan(work: Work) -> None:
    """Look at the data, measure, choose, and keep the choice. Raises InputError if the time is too short."""
    prepared, record, clock = open_prepared(work.config), work.record, work.clock
    data = data_of(prepared, may_hold_out=not record.own_folds)
    clock.tell(describe(data, prepared), record.looked_at)
    size, competition = prepared.image_size, prepared.competition
    pretrained = has_weights(work.config, competition, size, clock)
    measured = measure_all(work.config, competition, size, pretrained, clock)
    seconds = probe_seconds(data, measured[0][1], competition.hflip_ok)
    choice = choose(measured, data, clock.left)
    if choice is None and pretrained:
        choice = _only_probe(measured[0][1], data, seconds, clock.left)
    if choice is None or choice.seconds > clock.left:
        epoch = data.num_images / measured[-1][1].train / 60
        raise InputError(
            f"--minutes {work.config.minutes:g}: an epoch takes about {epoch:.1f} minutes on this machine, and nothing "
            "quicker fits; give more time"
        )
    if choice.folds == 1 and data.holdout_size:
        work.command("prepare", *work.paths, *HOLDOUT.split())  # more images to train on, fewer to score
        record.prepare_flags = HOLDOUT
    beside = pretrained and not choice.recipe.is_probe and seconds < MAX_PROBE_SHARE * clock.left
    record.flags = flags_of_recipe(work.config, choice.recipe, size, work.config.weights is None)
    record.epochs, record.planned_folds, record.predict_rate = choice.epochs, choice.folds, choice.rates.predict
    record.probe = f"{work.config.run_name}-probe" if beside else None
    record.runs = [work.config.run_name]
    clock.tell(f"chosen: {choice.recipe.name}; {choice.reason}", record.reasons)
    if beside:
        clock.tell(f"a linear probe beside it, in case it is better: about {seconds:,.0f} s", record.reasons)
    elif pretrained and not choice.recipe.is_probe:
        share = f"more than {MAX_PROBE_SHARE:.0%} of the time"
        clock.tell(f"no linear probe beside it: {seconds:,.0f} s are {share}", record.reasons)
    clock.tell(f"time: {minutes(clock.used)} used, {minutes(clock.left)} left", record.reasons)


def _only_probe(rates: Rates, data: Data, seconds: float, left: float) -> Choice:
    folds = max(1, min(data.num_folds, int(MARGIN * left / seconds)))
    why = f"no training sees enough images in {minutes(left)}; a probe takes {seconds:,.0f} s a fold"
    return Choice(
        recipe=PROBE, rates=rates, epochs=PROBE_EPOCHS, folds=folds, seconds=folds * seconds, reason=why
    )  # fmt: skip
