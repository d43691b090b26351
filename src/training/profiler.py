"""Where a training step's time goes: a table of shares, and a trace that chrome://tracing and Perfetto open."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from src.core.writing import replacing, write_csv

WARMING = 5  # steps that are not looked at, or half of a short epoch's
STEPS = 10  # that are


class Profiler:
    """Times the phases of some steps, waiting for the device around each; does nothing where `folder` is None.

    Writes profile.csv (phase, milliseconds a step, share) and trace.json into the folder.
    """

    def __init__(self, folder: Path | None, device: torch.device, num_steps: int = 0) -> None:
        self.folder, self.device = folder, device
        self.first = min(WARMING, num_steps // 2)
        self.step = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self.trace: profile | None = None
        self._begin_if_due()

    def _begin_if_due(self) -> None:
        if self.folder and self.step == self.first:
            kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device.type == "cuda")
            self.trace = profile(activities=kinds, acc_events=True)
            self.trace.start()

    def _wait(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside as part of `name`."""
        if self.trace is None:
            yield
            return
        started = self._wait()
        with record_function(name):
            yield
        self.seconds[name] += self._wait() - started

    def step_done(self, waited: float) -> None:
        """Count a step; `waited` is the seconds that its batch was waited for."""
        if self.folder is None:
            return
        self.step += 1
        if self.trace:
            self.seconds["data"] += waited
        if self.step == self.first + STEPS:
            self.finish()
        self._begin_if_due()

    def finish(self) -> None:
        """End the trace, where one has begun; write and print what it showed."""
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
        print(f"where {steps} steps spent their time (milliseconds a step):\n{table.to_string(index=False)}")
        print(f"trace: {self.folder / 'trace.json'} (open it in ui.perfetto.dev or chrome://tracing)", flush=True)
