"""Flipped bits and full disks are reported, and nothing saved before is lost."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from src.core.errors import InputError
from src.data.cache import open_cache
from src.runs.checkpoint import load_model, load_state, previous_of, save_model, save_state
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import prepared_at
from tests.trust.conftest import Commands
from tests.trust.test_kills import FLAGS, assert_same, temporaries, trained

FLIPS = 100


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit of a file, half of the time within its first 128 bytes."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(rng.choice([len(data), 128]))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_a_flipped_bit_in_a_checkpoint_is_detected_and_the_previous_one_is_used(
    tmp_path: Path, figure: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    rng, path = random.Random(0), tmp_path / "last.pt"
    for step in (1, 2):
        save_state(path, {"step": step, "network": nn.Linear(20, 30).state_dict()})
    intact = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        assert load_state(path)["step"] == 1
        assert "is damaged" in capsys.readouterr().out
        path.write_bytes(intact)
    assert load_state(path)["step"] == 2
    flip(path, rng)
    flip(previous_of(path), rng)
    with pytest.raises(InputError, match="is damaged .*, and so is the one saved before it"):
        load_state(path)
    figure(f"one bit flipped in a checkpoint: {FLIPS} of {FLIPS} detected, and the previous checkpoint used")


def test_a_flipped_bit_in_weights_is_detected(tmp_path: Path, figure: Callable[[str], None]) -> None:
    rng, path, network = random.Random(1), tmp_path / "last.safetensors", nn.Linear(20, 30)
    save_model(path, network)
    intact = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        with pytest.raises(InputError, match=r"last\.safetensors: is damaged"):
            load_model(path, network, "train again")
        path.write_bytes(intact)
    load_model(path, network, "train again")
    figure(f"one bit flipped in weights: {FLIPS} of {FLIPS} detected")


def test_a_flipped_bit_in_the_cache_is_detected_and_prepare_rebuilds_it(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    rng, path = random.Random(2), prepared_at(tmp_path / "runs" / "svhn").cache_file("train", (64, 128))
    intact = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        with pytest.raises(InputError, match=rf"{path.name}.* is damaged .*run python -m src\.prepare again"):
            open_cache(path.parent, path.stem).images.check_all()
        path.write_bytes(intact)
    open_cache(path.parent, path.stem).images.check_all()
    data = bytearray(intact)
    data[8] ^= 1 << 6  # numpy's header parser fails on it
    path.write_bytes(data)
    ended = podium("train", *FLAGS[:-2])
    assert (ended.code, f"{path.name}: is damaged" in ended.err) == (2, True)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert path.read_bytes() == intact
    figure(f"one bit flipped in the cache: {FLIPS} of {FLIPS} detected; prepare rebuilds it")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 MiB as runs/; skip the test if mounting is not allowed."""
    folder = tmp_path / "runs"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_full_disk_while_saving_keeps_the_checkpoint(
    small_disk: Path, svhn: MakeSvhn, commands: Commands, figure: Callable[[str], None], count: int
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    rng, cwd = random.Random(count), commands.cwd
    commands.run("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    commands.run("train", *FLAGS, "--run-name", "straight")
    expected, folder = trained(cwd, "straight"), small_disk / "svhn" / "run" / "fold0"
    size = (small_disk / "svhn" / "straight" / "fold0" / "last.pt").stat().st_size
    for _ in range(count):
        shutil.rmtree(folder.parent, ignore_errors=True)
        assert commands.stopped_after_steps(rng.randrange(1, 5), "train", *FLAGS, "--run-name", "run") == 143
        before = load_state(folder / "last.pt")["step"]
        free = shutil.disk_usage(small_disk).free
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(max(0, free - rng.randrange(0, size))))
        commands.start("train", *FLAGS, "--run-name", "run")
        assert commands.ended() == 2, (cwd / "err").read_text()
        message = (cwd / "err").read_text()
        assert "No space left on device; make room" in message
        assert "Traceback" not in message
        ballast.unlink()
        assert load_state(folder / "last.pt")["step"] >= before
        assert temporaries(folder) == []
        commands.run("train", *FLAGS, "--run-name", "run")
        assert_same(trained(cwd, "run"), expected)
    figure(f"disk full while saving: {count} of {count} keep the checkpoint, report it and resume identically")
