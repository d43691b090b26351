"""doctor reports what would stop a training, and how to fix it, before anything is decoded."""

import errno
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from src.checkup import findings
from tests.fixtures import MakeSvhn, Podium

NET = ("--backbone", "string_cnn")


def test_a_complete_competition_has_no_problems(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_train=5, num_val=2, num_test=3)
    code, out, _ = podium("doctor", *NET)
    assert code == 0
    assert "ok    7 labelled images, all there" in out
    assert "ok    3 test images, all there" in out
    assert re.search(r"ok    memory of [\d.]+ GiB holds the cache", out)
    assert out.splitlines()[-1] == "ready: python -m src.prepare --competition svhn"
    assert not (tmp_path / "runs").exists()
    assert podium("prepare", "--num-folds", 3, "--num-processes", 1).code == 0
    out = podium("doctor", *NET).out
    assert ", 3 folds " in out
    assert out.splitlines()[-1] == "ready: python -m src.train --competition svhn"


def test_a_missing_image_and_a_missing_file_are_reported(svhn: MakeSvhn, podium: Podium) -> None:
    folder = svhn(packing="folder")
    (folder / "mchar_test_a" / "000001.png").unlink()
    code, out, _ = podium("doctor", *NET)
    assert code == 1  # one of five test images: more than the share that prepare allows
    assert "test images are missing, such as mchar_test_a/000001.png; download them again" in out
    (folder / "mchar_train.json").unlink()
    code, out, _ = podium("doctor", *NET)
    assert code == 1
    assert "mchar_train.json is missing" in out


def test_too_little_disk_space_is_reported(svhn: MakeSvhn, podium: Podium) -> None:
    svhn()
    code, out, _ = podium("doctor", *NET, "--image-size", 4096, 4096, "--num-folds", 2_000_000)
    assert code == 1
    assert "of disk are free" in out
    assert "--num-folds" in podium("doctor", *NET, "--num-folds", -3).err


def test_an_unwritable_folder_is_reported(svhn: MakeSvhn, podium: Podium, monkeypatch: pytest.MonkeyPatch) -> None:
    svhn()

    def refused(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    code, out, _ = podium("doctor", *NET)
    assert code == 1
    assert "bad   runs: cannot be written (Read-only file system)" in out


def test_missing_packages_and_other_versions_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("# a comment\nnumpy==0.1\nno-such-package==2.0\n")
    monkeypatch.setattr(findings, "REQUIREMENTS", tmp_path / "requirements.txt")
    _, missing, different = findings.check_python()
    assert missing == ("bad", "not installed: no-such-package; python -m pip install -r requirements.txt")
    assert different.kind == "note"
    assert "(tested with 0.1)" in different.text


@pytest.mark.parametrize("command", ["doctor", "train"])
def test_commands_without_their_packages_are_refused_in_one_line(command: str) -> None:
    done = subprocess.run([sys.executable, "-S", "-m", f"src.{command}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sys.executable} lacks ")
    assert "torch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_full_shared_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    (found,) = findings.check_shared_memory()
    assert found.kind == "note"
    assert "--shm-size=1g" in found.text
