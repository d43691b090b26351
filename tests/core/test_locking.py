"""Temporary files: those of killed processes are deleted, those of others are not."""

import os
from pathlib import Path

import pytest

from src.core.locking import delete_stale, temporary_of


def test_temporary_files_of_another_machine_are_kept_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = temporary_of(tmp_path / "run.json")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "node-7.cluster")
        files = [temporary_of(tmp_path / name) for name in ("run.json", "fold0")]
    for file in (own, *files):
        file.touch()
    os.utime(files[1], (0, 0))
    delete_stale(tmp_path)
    assert [file.exists() for file in (own, *files)] == [True, True, False]
