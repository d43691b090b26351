"""Learning rate schedules."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from src.config import TrainConfig
from src.training.schedule import lr_factor

SCHEDULES = get_args(get_type_hints(TrainConfig)["schedule"])
PROGRESS = np.linspace(0, 1, 1001)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lr_peaks_at_the_end_of_the_warmup_and_never_rises_after(schedule: str) -> None:
    factors = np.array([lr_factor(schedule, share, 0.2) for share in PROGRESS])
    assert factors[0] == pytest.approx(0.04)
    assert factors[200] == pytest.approx(1, abs=1e-3)
    assert factors.max() <= 1
    assert (np.diff(factors[:201]) > 0).all()
    assert (np.diff(factors[200:]) <= 1e-12).all()


@pytest.mark.parametrize(("schedule", "end"), [("onecycle", 0), ("cosine", 0), ("step", 0.01), ("constant", 1)])
def test_each_schedule_ends_at_its_final_value(schedule: str, end: float) -> None:
    assert lr_factor(schedule, 1.0, 0.2) == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warmup_it_starts_at_the_peak(schedule: str) -> None:
    assert lr_factor(schedule, 0.0, 0.0) == 1


def test_the_cosine_schedules_are_halfway_down_at_half_time() -> None:
    assert lr_factor("onecycle", 0.6, 0.2) == pytest.approx(0.5)
    assert lr_factor("cosine", 0.6, 0.2) == pytest.approx(0.5)


def test_the_step_schedule_drops_tenfold_twice() -> None:
    assert [lr_factor("step", share, 0.2) for share in (0.59, 0.6, 0.84, 0.85)] == [1.0, 0.1, 0.1, 0.01]
