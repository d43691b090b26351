"""All commands work with unusual folder names, clocks, permissions and locales."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import MakeSvhn
from tests.trust.conftest import ROOT, Commands
from tests.trust.test_kills import FLAGS

NAME = "数据 集 ñ"
COMMANDS = [
    ("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1),
    ("train", *FLAGS),
    ("predict", "--competition", "svhn"),
]


@pytest.fixture
def odd_folder(svhn: MakeSvhn, tmp_path: Path) -> Iterator[Path]:
    """Yield a folder with a space and Chinese characters in its name, and a read-only input folder dated 2099."""
    svhn(num_train=12, num_val=6, num_test=3)
    parent = tmp_path / NAME
    parent.mkdir()
    (tmp_path / "input").rename(parent / "input")
    for path in [*(parent / "input").rglob("*"), parent / "input"]:
        os.utime(path, (4_070_908_800, 4_070_908_800))
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Root ignores file permissions: if mounting is allowed, the folder is also mounted read-only.
    folder = str(parent / "input")
    mounted = False
    if os.geteuid() == 0 and shutil.which("mount"):
        mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode == 0
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    yield parent
    if mounted:
        subprocess.run(["umount", folder], check=True)


def test_all_commands_work_with_a_chinese_folder_name_read_only_input_and_future_dates(
    odd_folder: Path, commands: Commands, figure: Callable[[str], None]
) -> None:
    listed = {path: path.stat().st_mtime_ns for path in (odd_folder / "input").rglob("*")}
    commands.cwd = odd_folder
    for argv in COMMANDS:
        commands.run(*argv)
    assert len((odd_folder / "submissions/svhn/baseline.csv").read_text().splitlines()) == 4
    assert {path: path.stat().st_mtime_ns for path in (odd_folder / "input").rglob("*")} == listed
    figure("read-only input dated 2099 in a folder with a space and Chinese characters in its name: works")


PLAIN, TURKISH = {"LC_ALL": "C"}, {"LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # stdout can write ASCII only


@pytest.mark.parametrize(
    ("odd", "umask"),
    [pytest.param(odd, umask, marks=pytest.mark.slow) for odd in (ASCII, PLAIN, TURKISH) for umask in (0o077, 0)],
)
def test_all_commands_work_with_any_locale_time_zone_and_umask(
    odd_folder: Path, odd: dict[str, str], umask: int, figure: Callable[[str], None]
) -> None:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    for argv in COMMANDS:
        ended = subprocess.run(
            [sys.executable, "-m", f"src.{argv[0]}", *map(str, argv[1:])],
            cwd=odd_folder,
            env={**plain, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **odd},
            umask=umask,
            capture_output=True,
        )
        assert ended.returncode == 0, ended.stderr.decode(errors="replace")
        assert b"Traceback" not in ended.stderr
    assert len((odd_folder / "submissions/svhn/baseline.csv").read_text().splitlines()) == 4
    figure(f"{', '.join(f'{key}={value}' for key, value in odd.items())}, umask {umask:03o}: works")


@pytest.mark.slow
def test_all_commands_work_with_16_mib_of_shared_memory(
    svhn: MakeSvhn, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    commands = [[sys.executable, "-m", f"src.{argv[0]}", *map(str, argv[1:])] for argv in COMMANDS]
    commands[0][-1] = "2"  # processes
    script = "mount -t tmpfs -o size=16m tmpfs /dev/shm || exit 77\n"
    script += "\n".join(" ".join(f"'{part}'" for part in argv) + " || exit 1" for argv in commands)
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip("mounting needs root")
    assert ended.returncode == 0, ended.stderr
    figure("/dev/shm of 16 MiB: prepare with 2 processes, train and predict work; images do not go through it")
