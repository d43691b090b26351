"""Memory and GPU utilisation of an epoch."""

from pathlib import Path

import pytest
import torch

from src.core.runtime import memory_limit
from src.training import resources as metering
from src.training.resources import Meter


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


def test_the_limit_of_a_containers_own_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "CGROUPS", tmp_path)
    whole = memory_limit()
    assert whole > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit() == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_limit() == 1_000_000
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("5000\n")
    assert memory_limit() == 5000


def test_the_limit_of_any_group_above_this_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "CGROUPS", tmp_path)
    monkeypatch.setattr(metering, "OWN_GROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("3:cpu,memory:/job/step\n1:cpu:/other\n0::/slice/unit\n")
    for folder, name in (("memory/job/step", "memory.limit_in_bytes"), ("slice", "memory.max")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text("7000\n")
        assert memory_limit() == 7000
        (tmp_path / folder / name).unlink()
    assert memory_limit() > 2**28
