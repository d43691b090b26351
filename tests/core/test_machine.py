"""The limits of containers (cgroups)."""

from pathlib import Path

import pytest

from src.core import machine
from src.core.machine import memory_limit, num_cores


def test_a_containers_cgroup_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    unlimited = memory_limit()
    assert unlimited > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit() == unlimited
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_limit() == 1_000_000
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("5000\n")
    assert memory_limit() == 5000


def test_the_limit_of_any_parent_cgroup_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("3:cpu,memory:/job/step\n1:cpu:/other\n0::/slice/unit\n")
    for folder, name in (("memory/job/step", "memory.limit_in_bytes"), ("slice", "memory.max")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text("7000\n")
        assert memory_limit() == 7000
        (tmp_path / folder / name).unlink()
    assert memory_limit() > 2**28


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"slice/cpu.max": "10000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/job/cpu.cfs_quota_us": "200000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu.max": "\n"}, 64),
    ],
)
def test_a_containers_share_of_cores_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cgroup").write_text("3:cpu,cpuacct:/job/step\n0::/slice/unit\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_cores() == expected
