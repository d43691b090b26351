"""Memory and GPU utilisation of an epoch."""

import pytest
import torch

from src.training.resources import ResourceMonitor


def test_cpu_memory_is_the_peak_of_the_process_in_mib() -> None:
    row = ResourceMonitor(torch.device("cpu")).row()
    assert 100 < row["memory_mib"] < 100_000  # torch alone takes a few hundred
    assert row["gpu_utilisation"] == 0


def test_utilisation_is_the_mean_of_the_drivers_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([20, 100, 90])
    monkeypatch.setattr(torch.cuda, "utilization", lambda: next(readings))
    monitor = ResourceMonitor(torch.device("cpu"))
    monitor.read()  # does nothing without a GPU
    assert monitor.row()["gpu_utilisation"] == 0
    monitor.can_ask = True
    for _ in range(3):
        monitor.read()
    assert monitor.row()["gpu_utilisation"] == pytest.approx(0.7)


@pytest.mark.gpu
def test_gpu_memory_is_the_peak_since_the_monitor_started() -> None:
    torch.ones(300 * 2**20, dtype=torch.uint8, device="cuda")
    monitor = ResourceMonitor(torch.device("cuda"))
    held = torch.ones(100 * 2**20, dtype=torch.uint8, device="cuda")
    monitor.read()
    row = monitor.row()
    assert 100 <= row["memory_mib"] < 300
    assert 0 <= row["gpu_utilisation"] <= 1
    assert held.is_cuda
