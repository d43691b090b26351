"""The third stage of auto: as many folds as there is time for, watched by a guard that is asked after each epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from src.config import TrainConfig
from src.core.progress import minutes
from src.core.runtime import choose_compute, explained
from src.data.prepared import open_prepared
from src.planning.looking import train_config
from src.planning.plan import COMMAND_SECONDS, MARGIN
from src.planning.record import Clock
from src.planning.work import Work
from src.runs.record import FoldResult
from src.training.checks import check_flags, check_weights
from src.training.fold import train_fold
from src.training.resume import run_to_train
from src.training.status import Status

REPLAN = 1 / 3  # share of the epochs until which a late training begins again with fewer ...
ENOUGH = 0.85  # ... unless this share of them will fit, so that only the lowest learning rates are missed
QUICK = 1.25  # times the epochs for which there would be time after the first one, from which there are more of them
MAX_RUNS = 3  # trainings of the first fold, the later ones with fewer epochs
USABLE = 0.8  # share of the epochs from which a training that ends early is worth keeping beside finished ones


class Replan(Exception):
    """The first fold is so late that it must begin again with fewer epochs, or so quick that there is time for more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"an epoch takes {seconds:.1f} s")
        self.seconds = seconds


class Dropped(Exception):
    """There is no time to finish this fold."""


@dataclass(kw_only=True)
class Guard:
    """Asked after each epoch whether there is time for the next one."""

    clock: Clock
    fold: int
    epochs: int
    tail: float  # seconds that are needed after the last epoch, for predictions
    is_first: bool
    may_replan: bool
    affordable: Callable[[float], int]  # epochs for which there is time, from the seconds of one
    most: int  # epochs that are of use
    ended_early: int | None = None  # after this epoch

    def __call__(self, history: list[dict[str, float]]) -> bool:
        """Return whether to end the training here. Raises Replan or Dropped."""
        self.clock.save()
        done = len(history)
        recent = [row["seconds"] for row in history[-3:]]
        seconds = sum(recent) / len(recent)
        left = self.clock.left - self.tail
        if (self.epochs - done) * seconds <= left:
            may_grow = done == 1 and self.is_first and self.may_replan and self.epochs < self.most
            if may_grow and self.affordable(seconds) >= QUICK * self.epochs:
                raise Replan(seconds)
            return False
        fitting = done + left / seconds
        if self.is_first and self.may_replan and done <= REPLAN * self.epochs and fitting < ENOUGH * self.epochs:
            raise Replan(seconds)
        if seconds <= left or done == self.epochs:
            return False  # there is time for one more, which may be quicker
        if not self.is_first and done < USABLE * self.epochs:
            raise Dropped
        self.ended_early = done
        line = (
            f"fold {self.fold}: ended after {done} of {self.epochs} epochs, {minutes(max(0, left))} before the time "
            "that predicting needs"
        )
        self.clock.tell(line, self.clock.record.events)
        return True


def _train_within(config: TrainConfig, number: int, guard: Guard) -> FoldResult:
    """Train or resume one fold. Raises Replan, Dropped, InputError."""
    run = run_to_train(config)
    check_flags(config, run.competition)
    check_weights(config, run.competition)
    compute = choose_compute(config.device, config.precision)
    on_epoch: Any = guard
    status = Status([number], config.epochs, compute.describe())
    with status.told(), explained(config.deterministic):
        return train_fold(config, run, [number], compute, on_epoch, status)[1]


def train(work: Work) -> None:
    """Train the linear probe, if one is planned, then the folds that there is time for. Raises InputError."""
    record, clock = work.record, work.clock
    if record.trained:
        return
    numbers, data = open_prepared(work.config).fold_numbers("all"), work.data()
    if record.probe and not record.folds_trained:
        probe = train_config(work.config, record.probe_flags, record.probe)
        guard = Guard(clock=clock, fold=numbers[0], epochs=probe.epochs, tail=0, is_first=True, may_replan=False,
                      affordable=lambda seconds: 0, most=0)  # fmt: skip
        _train_within(probe, numbers[0], guard)
    for number in numbers:
        if number in record.folds_trained:
            continue
        if len(record.folds_trained) >= record.planned_folds:  # which a late first fold has changed
            break
        predict = work.predict_seconds(data, len(record.folds_trained) + 1, data.num_views) + COMMAND_SECONDS
        if record.folds_trained and record.longest_fold + predict > clock.left:
            record.trained, longest = True, minutes(record.longest_fold)
            line = f"fold {number} and later ones are skipped: one takes {longest}, {minutes(clock.left)} are left"
            clock.tell(line, record.events)
            return
        before = clock.used
        try:
            _train_fold(work, number, predict + work.oof_seconds(data))
        except Dropped:
            record.trained = True
            clock.tell(f"fold {number} is skipped for lack of time", record.events)
            return
        record.longest_fold = max(record.longest_fold, clock.used - before)
        record.folds_trained.append(number)
        clock.save()


def _train_fold(work: Work, number: int, tail: float) -> None:
    """Train a fold; the first one again with other epochs, under another name, if it is late or early."""
    record = work.record

    def affordable(seconds: float) -> int:
        folds = record.planned_folds
        return min(record.most_epochs, int(MARGIN * (work.clock.left - folds * tail) / (folds * seconds)))

    while True:
        flags = {**record.flags, "epochs": str(record.epochs)}
        guard = Guard(
            clock=work.clock, fold=number, epochs=record.epochs, tail=tail, is_first=not record.folds_trained,
            may_replan=len(record.runs) < MAX_RUNS and "freeze_backbone" not in flags, affordable=affordable,
            most=record.most_epochs,
        )  # fmt: skip
        try:
            _train_within(train_config(work.config, flags, record.runs[-1]), number, guard)
            return
        except Replan as found:
            if found.seconds * record.epochs * record.planned_folds > work.clock.left - tail:  # late
                record.planned_folds = 1
            before, record.epochs = record.epochs, max(1, affordable(found.seconds))
            folds = f"{record.planned_folds} fold{'s' * (record.planned_folds > 1)}"
            line = f"{found}, not as measured: fold {number} begins again, {record.epochs} epochs instead of {before}"
            record.runs.append(f"{work.config.run_name}-{len(record.runs) + 1}")  # before the new epochs are saved
            work.clock.tell(f"{line}, {folds}", record.events)
