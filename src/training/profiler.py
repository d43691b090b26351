"""Profile training steps: time per phase, and a trace for chrome://tracing or Perfetto."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from src.core.runtime import wait_for
from src.core.writing import replacing, write_csv
from src.data.loader import Batch

WARMUP_STEPS = 5  # not profiled; at most half of the epoch
PROFILED_STEPS = 10


class Profiler:
    """Times the phases of some steps, synchronising with the device around each; does nothing if `folder` is None.

    Writes profile.csv (phase, milliseconds per step, share) and trace.json into the folder.
    """

    def __init__(self, folder: Path | None, device: torch.device, num_steps: int = 0) -> None:
        self.folder, self.device = folder, device
        self.first = min(WARMUP_STEPS, num_steps // 2)
        self.step = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self.trace: profile | None = None
        self._start_if_due()

    def _start_if_due(self) -> None:
        if self.folder and self.step == self.first:
            kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device.type == "cuda")
            self.trace = profile(activities=kinds, acc_events=True)
            self.trace.start()

    def _wait(self) -> float:
        wait_for(self.device)
        return time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as part of phase `name`."""
        if self.trace is None:
            yield
            return
        started = self._wait()
        with record_function(name):
            yield
        self.seconds[name] += self._wait() - started

    def step_done(self, waited: float) -> None:
        """Count a step; `waited` is the seconds spent waiting for its batch."""
        if self.folder is None:
            return
        self.step += 1
        if self.trace:
            self.seconds["data"] += waited
        if self.step == self.first + PROFILED_STEPS:
            self.finish()
        self._start_if_due()

    def finish(self) -> None:
        """Stop the trace if it is running; write and print the results."""
        trace, self.trace = self.trace, None
        if trace is None or self.folder is None:
            return
        trace.stop()
        with replacing(self.folder / "trace.json") as temporary:
            trace.export_chrome_trace(str(temporary))
        steps = max(1, self.step - self.first)
        phases = ["data", "forward", "backward", "optimizer"]
        milliseconds = [1000 * self.seconds[name] / steps for name in phases]
        shares = [value / max(1e-9, sum(milliseconds)) for value in milliseconds]
        table = pd.DataFrame({"phase": phases, "milliseconds": milliseconds, "share": shares}).round(4)
        write_csv(self.folder / "profile.csv", table)
        print(f"time per phase over {steps} steps (milliseconds per step):\n{table.to_string(index=False)}")
        print(f"trace: {self.folder / 'trace.json'} (open it in ui.perfetto.dev or chrome://tracing)", flush=True)


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds spent waiting for it."""
    while True:
        started = time.perf_counter()
        with record_function("data"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
