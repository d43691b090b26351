"""The profile of training steps: profile.csv and trace.json."""

import json
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from src.training.profiler import PROFILED_STEPS, WARMUP_STEPS, Profiler
from tests.fixtures import MakeSvhn, Podium

PHASES = ["data", "forward", "backward", "optimizer"]


def events(folder: Path) -> Counter[str]:
    """Return how often each name occurs in trace.json."""
    return Counter(event.get("name", "") for event in json.loads((folder / "trace.json").read_text())["traceEvents"])


def test_profiling_lists_the_phases_and_does_not_change_the_weights(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path
) -> None:
    svhn(num_train=22, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    flags = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 2, "--epochs", 2,
             "--fold", 0)  # fmt: skip
    for run, more in (("plain", ()), ("timed", ("--profile",))):
        code, out, err = podium("train", *flags, "--run-name", run, *more)
        assert code == 0, err
    plain, timed = (tmp_path / "runs" / "svhn" / run / "fold0" for run in ("plain", "timed"))
    assert "time per phase over 4 steps" in out  # the first epoch has 7 steps; 3 warm up
    assert not (plain / "profile.csv").exists()
    for name in ("best.safetensors", "last.safetensors"):
        assert (plain / name).read_bytes() == (timed / name).read_bytes()
    for column in ("loss", "score"):
        assert pd.read_csv(plain / "log.csv")[column].tolist() == pd.read_csv(timed / "log.csv")[column].tolist()
    table = pd.read_csv(timed / "profile.csv")
    assert table["phase"].tolist() == PHASES
    assert table["share"].sum() == pytest.approx(1, abs=3e-4)
    assert (table["milliseconds"] > 0).all()
    assert {name: events(timed)[name] for name in PHASES[1:]} == dict.fromkeys(PHASES[1:], 4)
    assert events(timed)["data"] >= 4


@pytest.mark.parametrize("num_steps", [1, 2, WARMUP_STEPS, WARMUP_STEPS + PROFILED_STEPS + 9])
def test_the_times_exclude_the_warmup_steps(tmp_path: Path, num_steps: int) -> None:
    profiler = Profiler(tmp_path, torch.device("cpu"), num_steps)
    for _ in range(num_steps):
        for seconds, name in ((0.004, "forward"), (0.002, "backward"), (0.002, "optimizer")):
            with profiler.phase(name):
                time.sleep(seconds)
        profiler.step_done(waited=0.006)
    profiler.finish()
    table = pd.read_csv(tmp_path / "profile.csv").set_index("phase")
    assert table["share"].sum() == pytest.approx(1, abs=3e-4)
    assert table["milliseconds"]["data"] == pytest.approx(6)
    assert table["milliseconds"]["forward"] >= 4
    assert events(tmp_path)["forward"] == min(num_steps - min(WARMUP_STEPS, num_steps // 2), PROFILED_STEPS)
