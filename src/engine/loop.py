"""Epochs: train, score, log, keep; stop and go on without a trace."""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function
from tqdm import tqdm

from src.competitions.spec import Head
from src.data.loader import Batch, Batches
from src.engine.checkpoint import load_state, save_model, save_state
from src.engine.inference import Compute
from src.engine.meter import Meter
from src.engine.profile import Profiler
from src.engine.schedule import lr_factor
from src.engine.step import StepOptions, TrainState, train_step
from src.inputs import InputError
from src.outputs import write_text

READ_LOSS_EVERY = 20  # steps; reading it waits for the device


@dataclass(kw_only=True)
class Fit:
    """A training: what it needs, and where it stands (`history`, one row per epoch of log.csv)."""

    folder: Path
    state: TrainState
    loader: Batches
    heads: tuple[Head, ...]
    compute: Compute
    options: StepOptions
    epochs: int
    lr: float
    schedule: str
    warmup: float
    early_stopping: int | None
    evaluate: Callable[[torch.nn.Module], float]  # the score of a network on the held-out fold
    whole: Callable[[torch.nn.Module], torch.nn.Module] = lambda scored: scored  # what is kept of a scored network
    label: str = ""
    profile: bool = False  # whether to time some steps of the first epoch that is trained
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_score(self) -> float:
        return max((row["score"] for row in self.history), default=-1.0)

    @property
    def stopped_early(self) -> bool:
        """Whether so many epochs have gone by without a better score."""
        if self.early_stopping is None or not self.history:
            return False
        scores = [row["score"] for row in self.history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.early_stopping

    def run(self) -> None:
        """Train on from wherever last.pt stands. Writes log.csv, last.pt, best.safetensors, last.safetensors."""
        for epoch in range(len(self.history), self.epochs):
            if self.stopped_early:
                break
            row = self._epoch(epoch)
            if row["score"] > self.best_score:
                save_model(self.folder / "best.safetensors", self.whole(self.state.scored))
            self.history.append(row)
            self.save()
        save_model(self.folder / "last.safetensors", self.whole(self.state.scored))

    def _epoch(self, epoch: int) -> dict[str, float]:
        started, waited, loss_sum = time.perf_counter(), 0.0, torch.zeros((), device=self.compute.device)
        num_steps, name = len(self.loader), f"{self.label} epoch {epoch + 1}/{self.epochs}"
        self.state.network.train()
        profiler, meter = Profiler(self._profile_folder(), self.compute.device, num_steps), Meter(self.compute.device)
        with tqdm(total=num_steps, desc=name, mininterval=0.5, disable=None) as progress:
            for step, (batch, seconds) in enumerate(_timed(self.loader.epoch(epoch))):
                waited += seconds
                share = (epoch * num_steps + step) / (self.epochs * num_steps)
                lr = self.lr * lr_factor(self.schedule, share, self.warmup)
                loss_sum += train_step(self.state, batch, self.heads, lr, self.compute, self.options, profiler)
                profiler.step_done(seconds)
                progress.update()
                if step % READ_LOSS_EVERY == READ_LOSS_EVERY - 1 or step == num_steps - 1:
                    meter.read()
                    elapsed = time.perf_counter() - started
                    mean_loss = loss_sum.item() / (step + 1)
                    rate = (step + 1) * self.loader.batch_size / elapsed
                    progress.set_postfix_str(
                        f"loss {mean_loss:.3f}, {rate:,.0f} images/s, waiting {waited / elapsed:.0%}"
                    )
            profiler.finish()
            seconds = time.perf_counter() - started
            if not math.isfinite(mean_loss):
                raise InputError(f"{self.folder}: the loss of epoch {epoch + 1} is {mean_loss}; use a smaller --lr")
            score = self.evaluate(self.state.scored)
            summary = f"loss {mean_loss:.3f}, score {score:.4f}, {rate:,.0f} images/s, waiting {waited / seconds:.0%}"
            progress.set_postfix_str(summary)
            if progress.disable:  # no terminal: one line per epoch for the log
                print(f"{name}: {summary}", flush=True)
        return {
            "epoch": epoch + 1,
            "lr": lr,
            "loss": mean_loss,
            "score": score,
            "train_seconds": seconds,
            "seconds": time.perf_counter() - started,
            "images_per_second": num_steps * self.loader.batch_size / seconds,
            "waiting_share": waited / seconds,
            "micro_batch": -(-self.loader.batch_size // self.state.accumulate),
            **meter.row(),
        }

    def _profile_folder(self) -> Path | None:
        """Return where to write a profile; only once in a run of the command."""
        wanted, self.profile = self.profile, False
        return self.folder if wanted else None

    def save(self) -> None:
        """Save all that going on needs, then log.csv."""
        state = self.state
        kept: dict[str, Any] = {
            "network": state.network.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "ema": state.ema.module.state_dict() if state.ema else None,
            "step": state.step,
            "accumulate": state.accumulate,
            "history": self.history,
        }
        save_state(self.folder / "last.pt", kept)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round(value, 6) for key, value in row.items()} for row in self.history)
        write_text(self.folder / "log.csv", text.getvalue())

    def resume(self) -> None:
        """Go on from last.pt. Raises InputError where it is damaged."""
        kept = load_state(self.folder / "last.pt")
        self.state.network.load_state_dict(kept["network"])
        self.state.optimizer.load_state_dict(kept["optimizer"])
        for group in self.state.optimizer.param_groups:
            if "fused" in group:  # what an older version began unfused
                group["fused"] = True
        if kept["scaler"] and self.state.scaler.is_enabled():  # it may have begun on a device of another precision
            self.state.scaler.load_state_dict(kept["scaler"])
        if self.state.ema:
            self.state.ema.module.load_state_dict(kept["ema"])
        self.state.step = kept["step"]
        self.state.accumulate = kept["accumulate"]
        self.history = kept["history"]


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds that were spent waiting for it."""
    while True:
        started = time.perf_counter()
        with record_function("data"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
