"""Memory and GPU utilisation of an epoch."""

import pytest
import torch

from src.engine.meter import Meter


def test_memory_of_a_cpu_training_is_the_peak_of_the_process_in_mib() -> None:
    row = Meter(torch.device("cpu")).row()
    assert 100 < row["memory_mib"] < 100_000  # torch alone takes a few hundred
    assert row["gpu_utilisation"] == 0


def test_utilisation_is_the_mean_of_what_the_driver_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([20, 100, 90])
    monkeypatch.setattr(torch.cuda, "utilization", lambda: next(told))
    meter = Meter(torch.device("cpu"))
    meter.read()  # there is nothing to ask
    assert meter.row()["gpu_utilisation"] == 0
    meter.can_ask = True
    for _ in range(3):
        meter.read()
    assert meter.row()["gpu_utilisation"] == pytest.approx(0.7)


@pytest.mark.gpu
def test_memory_of_a_gpu_training_is_the_peak_since_the_meter_began() -> None:
    torch.ones(300 * 2**20, dtype=torch.uint8, device="cuda")
    meter = Meter(torch.device("cuda"))
    held = torch.ones(100 * 2**20, dtype=torch.uint8, device="cuda")
    meter.read()
    row = meter.row()
    assert 100 <= row["memory_mib"] < 300
    assert 0 <= row["gpu_utilisation"] <= 1
    assert held.is_cuda
