"""The training loop, with bit-exact resume on a CPU."""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from src.competitions.layout import HeadLayout
from src.config import TrainSettings
from src.core.errors import InputError
from src.core.progress import Progress, followed_by, minutes
from src.core.runtime import Compute
from src.core.signals import Stopped, stop
from src.core.writing import write_text
from src.data.loader import Batch, Batches
from src.runs.checkpoint import load_state, save_model, save_state
from src.runs.paths import FoldPaths
from src.training.nonfinite import MAX_IN_A_ROW
from src.training.profiler import Profiler, timed
from src.training.resources import ResourceMonitor
from src.training.schedule import lr_factor
from src.training.step import TrainState, train_step
from src.training.time_left import TimeLeft

READ_LOSS_EVERY = 20  # steps; reading it waits for the device
# Called with the rows of log.csv after each epoch is saved; returns whether to end the training there. It may raise.
OnEpoch = Callable[[list[dict[str, float]]], bool]


@dataclass(kw_only=True)
class EpochProgress:
    """Steps made in an epoch, how many were skipped and how many of those last in a row, the sum of losses, the seconds
    spent, and those of them spent waiting for data."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def loss(self) -> float:
        """The mean over the steps that were not skipped; NaN if there is none."""
        return self.loss_sum / (self.step - self.skipped) if self.step > self.skipped else math.nan


@dataclass(kw_only=True)
class Trainer:
    """A training: its parts, and its state (`history`: a row of log.csv per epoch; `progress`: the current epoch)."""

    paths: FoldPaths
    origin: dict[str, str | int]  # which run and fold its checkpoints belong to
    settings: TrainSettings
    state: TrainState
    loader: Batches
    layout: HeadLayout
    compute: Compute
    evaluate: Callable[[torch.nn.Module], float]  # the score of a network on the held-out fold
    time_left: TimeLeft
    goodness: Callable[[float], float] = float  # greater for a better score
    full_model: Callable[[torch.nn.Module], torch.nn.Module] = lambda scored: scored  # what is kept of a scored network
    unit: str = "images"  # what a batch consists of
    profile: bool = False  # whether to time some steps of the first epoch that is trained
    save_every: float = math.inf  # minutes
    on_epoch: OnEpoch = lambda history: False
    seconds_before: float = 0.0  # spent before the first epoch
    on_rows: Callable[[list[dict[str, float]]], None] = lambda history: None  # told of all rows after each epoch
    history: list[dict[str, float]] = field(default_factory=list)
    progress: EpochProgress = field(default_factory=EpochProgress)

    @property
    def best(self) -> float:
        """How good the best epoch is: minus infinity while no score was defined."""
        return max((self.goodness(row["score"]) for row in self.history), default=-math.inf)

    @property
    def stopped_early(self) -> bool:
        """Whether --early-stopping epochs have passed without a better score."""
        if self.settings.early_stopping is None or self.best == -math.inf:
            return False
        scores = [self.goodness(row["score"]) for row in self.history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.settings.early_stopping

    def run(self) -> None:
        """Train from the current state to the end. Writes log.csv, last.pt, best.safetensors, last.safetensors."""
        self.on_rows(self.history)  # a kill may have come between saving a row and telling of it
        for epoch in range(len(self.history), self.settings.epochs):
            if self.stopped_early:
                break
            row = self._epoch(epoch)
            with stop.deferring():
                if self.best == -math.inf or self.goodness(row["score"]) > self.best:
                    self._on_main(partial(save_model, self.paths.best, self.full_model(self.state.scored)))
                self.history.append(row)
                self.progress = EpochProgress(skipped_in_a_row=self.progress.skipped_in_a_row)
                self.save()
            self.on_rows(self.history)
            if self.on_epoch(self.history):
                break
        self._on_main(partial(save_model, self.paths.last, self.full_model(self.state.scored)))

    def _on_main(self, write: Callable[[], None]) -> None:
        """Let rank 0 write a file; the others wait for it."""
        self.compute.world.on_main(write)

    def _epoch(self, epoch: int) -> dict[str, float]:
        name = f"fold {self.paths.number} epoch {epoch + 1}/{self.settings.epochs}"
        started, monitor = time.perf_counter() - self.progress.seconds, ResourceMonitor(self.compute.device)
        later = partial(self.time_left.after_steps, self.history, epoch)
        with followed_by(later), Progress(name, len(self.loader), "steps", self.progress.step) as bar:
            self._steps(epoch, bar, monitor)
            progress = self.progress
            try:
                # Batch norm's averages are each rank's own; rank 0's are scored and saved.
                self.compute.world.copy_from_main(list(self.state.scored.buffers()))
                score = self._score()
            except Stopped:
                self.save()
                raise
            seconds = time.perf_counter() - started
            skipped = f", {progress.skipped} steps skipped" if progress.skipped else ""
            row = {"epoch": epoch + 1, "train_seconds": progress.seconds, "seconds": seconds}
            left = self.time_left.after_epoch([*self.history, row], epoch)
            bar.say(
                f"{name}: loss {progress.loss:.3f}, score {score:.4f}, {self._pace()}{skipped}, {minutes(left)} left"
            )
        return {
            "epoch": epoch + 1,
            "lr": self._lr(epoch, progress.step - 1),
            "loss": progress.loss,
            "score": score,
            "train_seconds": progress.seconds,
            "seconds": seconds,
            "images_per_second": self._rate(),
            "waiting_share": progress.waited / progress.seconds,
            "skipped_steps": progress.skipped,
            "micro_batch": -(-self.loader.batch_size // self.state.accumulate),
            **monitor.row(),
        }

    def _score(self) -> float:
        """Return the score of the held-out fold. Of several ranks all stop after it if one of them is asked to."""
        if self.compute.world.size == 1:
            return self.evaluate(self.state.scored)
        with stop.deferring():
            score = self.evaluate(self.state.scored)
            stop.ask(self.compute.world.most(stop.asked)[0])
        return score

    def _steps(self, epoch: int, bar: Progress, monitor: ResourceMonitor) -> None:
        """Make the remaining steps of an epoch; save now and then, and when asked to stop."""
        progress, num_steps = self.progress, len(self.loader)
        profiler = Profiler(self._profile_folder(), self.compute.device, num_steps)
        started, saved = time.perf_counter() - progress.seconds, time.perf_counter()
        loss_sum = torch.tensor(progress.loss_sum, device=self.compute.device)
        self.state.nonfinite.begin(progress.skipped, progress.skipped_in_a_row)
        self.state.network.train()
        with stop.deferring():
            for batch, waited in timed(self._batches(epoch, loss_sum)):
                lr = self._lr(epoch, progress.step)
                loss_sum += train_step(self.state, batch, self.layout, lr, self.compute, self.settings, profiler)
                profiler.step_done(waited)
                now = time.perf_counter()
                progress.step += 1
                progress.waited += waited
                progress.seconds = now - started
                text = None
                asked, late = self.compute.world.most(stop.asked, now - saved > 60 * self.save_every)
                stop.ask(asked)
                due = bool(stop.asked or late)
                if progress.step % READ_LOSS_EVERY == 0 or progress.step == num_steps or due:
                    monitor.read()
                    progress.loss_sum = loss_sum.item()
                    self._read_skipped(epoch)
                    text = f"loss {progress.loss:.3f}, {self._pace()}"
                bar.update(1, text)
                if due:
                    self.save()
                    stop.check()
                    saved = time.perf_counter()
            profiler.finish()
            stop.ask(self.compute.world.most(stop.asked)[0])
            if stop.asked:  # since the last step was made
                self.save()

    def _batches(self, epoch: int, loss_sum: torch.Tensor) -> Iterator[Batch]:
        """Yield the remaining batches of an epoch; save if a signal asks to stop while one is waited for."""
        try:
            yield from self.loader.epoch(epoch, self.progress.step)
        except Stopped:
            if self.compute.world.size == 1:  # other ranks are in the middle of a step
                self.progress.loss_sum = loss_sum.item()
                self._read_skipped(epoch)
                self.save()
            raise

    def _read_skipped(self, epoch: int) -> None:
        """Read how many steps were skipped. Raises InputError if too many were in a row."""
        progress = self.progress
        progress.skipped, progress.skipped_in_a_row = self.state.nonfinite.read()
        ends = epoch + 1 == self.settings.epochs and progress.step == len(self.loader)
        if progress.skipped_in_a_row >= MAX_IN_A_ROW or (ends and progress.skipped == progress.step):
            raise InputError(
                f"{self.paths.folder}: epoch {epoch + 1}, step {progress.step}: {progress.skipped_in_a_row} steps in a "
                "row had no finite loss or gradient and were skipped; use a smaller --lr or --precision fp32, with "
                "another --run-name or --restart (what was saved before is kept)"
            )

    def _lr(self, epoch: int, step: int) -> float:
        num_steps = len(self.loader)
        share = (epoch * num_steps + step) / (self.settings.epochs * num_steps)
        return self.settings.lr * lr_factor(self.settings.schedule, share, self.settings.warmup)

    def _pace(self) -> str:
        return f"{self._rate():,.0f} {self.unit}/s, waiting {self.progress.waited / self.progress.seconds:.0%}"

    def _rate(self) -> float:
        in_step = min(self.loader.batch_size, self.loader.num_images)  # a fold may have fewer than a batch
        return self.progress.step * in_step / self.progress.seconds

    def _profile_folder(self) -> Path | None:
        """Return where to write a profile; once per command."""
        wanted, self.profile = self.profile and self.compute.world.is_main, False
        return self.paths.folder if wanted else None

    def save(self) -> None:
        """Save everything that resuming needs, then log.csv."""
        state = self.state
        kept: dict[str, Any] = {
            **self.origin,
            "network": state.network.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "ema": state.ema.module.state_dict() if state.ema else None,
            "step": state.step,
            "num_ranks": self.compute.world.size,
            "accumulate": state.accumulate,
            "history": self.history,
            "progress": vars(self.progress),
        }
        self._on_main(partial(self._write, kept))

    def _write(self, kept: dict[str, Any]) -> None:
        save_state(self.paths.state, kept)
        if not self.history:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.history[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round(value, 6) for key, value in row.items()} for row in self.history)
        write_text(self.paths.log, text.getvalue())

    def resume(self) -> None:
        """Resume from last.pt, or if it is damaged from the one before.

        Raises InputError if both are damaged, or of another network than is built now.
        """
        kept = load_state(self.paths.state, self.origin)
        try:
            self.state.network.load_state_dict(kept["network"])
            self.state.optimizer.load_state_dict(kept["optimizer"])
        except (RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.paths.state}: is not of the network that is built now ({why}); bring back the packages and the "
                "competition that it began with, or give --restart"
            ) from error
        if kept["scaler"] and self.state.scaler.is_enabled():  # it may have begun on a device of another precision
            self.state.scaler.load_state_dict(kept["scaler"])
        if self.state.ema:
            self.state.ema.module.load_state_dict(kept["ema"])
        self.state.step = kept["step"]
        if kept["num_ranks"] != self.compute.world.size:
            print(
                f"note: {kept['num_ranks']} ranks trained until here, {self.compute.world.size} from now on: sums of "
                "gradients round differently and batch norm sees other parts, so the result is not the same to the bit"
            )
        self.state.accumulate = kept["accumulate"]
        self.history = kept["history"]
        self.progress = EpochProgress(**kept["progress"])
