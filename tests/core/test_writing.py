"""Writes are atomic, and a checksum detects a single flipped bit."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core import writing as outputs
from src.core.writing import (
    checksum_fits,
    replacing,
    write_arrays,
    write_csv,
    write_json,
    write_text,
    write_with_checksum,
)


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_intact_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = outputs.os.replace

    def replace(source: Path, target: Path) -> None:
        order.append("replace")
        real(source, target)

    monkeypatch.setattr(outputs.os, "fsync", lambda number: order.append("fsync"))
    monkeypatch.setattr(outputs.os, "replace", replace)
    write_text(tmp_path / "a.txt", "x")
    assert order == ["fsync", "replace"]


def test_parent_folders_are_created(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"x\n"


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"é": [1, None, 0.5]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None, 0.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"score": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None, 0.5]}


def test_a_csv_has_unix_line_ends_and_no_index(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"id": ["000123", "a,b"], "é": ["", "x"]}))
    assert (tmp_path / "a.csv").read_bytes() == 'id,é\n000123,\n"a,b",x\n'.encode()


def test_arrays_are_read_back_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, names=np.array(["a", "bc"]), values=np.eye(2, dtype=np.float32))
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == ["a", "bc"]
        assert arrays["values"].dtype == np.float32
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(path, names=np.array(["a", None], dtype=object))


def save(path: Path, content: bytes) -> None:
    write_with_checksum(path, content)


def test_a_checksum_detects_every_single_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save(path, b"0123456789")
    assert checksum_fits(path)
    for bit in range(80):
        data = bytearray(b"0123456789")
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert not checksum_fits(path)


def test_a_file_without_a_checksum_does_not_match(tmp_path: Path) -> None:
    save(tmp_path / "weights", b"x")
    (tmp_path / "weights.sha256").unlink()
    assert not checksum_fits(tmp_path / "weights")


@pytest.mark.parametrize("killed_before", ["weights.sha256", "weights"])
def test_a_kill_between_file_and_checksum_leaves_a_file_that_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    path = tmp_path / "weights"
    save(path, b"first")
    real = outputs.os.replace

    def killed(source: Path, target: Path) -> None:
        if target.name == killed_before:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(outputs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, b"second")
    assert path.read_bytes() == b"first"
    assert checksum_fits(path)


def test_the_checksum_can_be_checked_with_sha256sum(tmp_path: Path) -> None:
    save(tmp_path / "weights", b"x")
    assert (tmp_path / "weights.sha256").read_text() == f"{outputs.sha256_of(tmp_path / 'weights')}  weights\n"
