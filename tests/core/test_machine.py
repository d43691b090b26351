"""The memory limits of containers (cgroups)."""

from pathlib import Path

import pytest

from src.core import machine
from src.core.machine import memory_limit


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
