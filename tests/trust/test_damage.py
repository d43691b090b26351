"""Bits that flip and disks that fill up: told, and nothing that was there is lost."""

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
from tests.trust.conftest import Commands
from tests.trust.test_kills import FLAGS, assert_same, leftovers, trained

FLIPS = 100


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit of a file, every other time within its header."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(rng.choice([len(data), 128]))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_a_flipped_bit_in_a_checkpoint_is_found_and_the_one_before_is_used(
    tmp_path: Path, figure: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    rng, path = random.Random(0), tmp_path / "last.pt"
    for step in (1, 2):
        save_state(path, {"step": step, "network": nn.Linear(20, 30).state_dict()})
    sound = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        assert load_state(path)["step"] == 1
        assert "is damaged" in capsys.readouterr().out
        path.write_bytes(sound)
    assert load_state(path)["step"] == 2
    flip(path, rng)
    flip(previous_of(path), rng)
    with pytest.raises(InputError, match="is damaged, as is what was saved before it"):
        load_state(path)
    figure(f"one bit flipped in a checkpoint: {FLIPS} of {FLIPS} found, and the checkpoint before used")


def test_a_flipped_bit_in_weights_is_found(tmp_path: Path, figure: Callable[[str], None]) -> None:
    rng, path, network = random.Random(1), tmp_path / "last.safetensors", nn.Linear(20, 30)
    save_model(path, network)
    sound = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        with pytest.raises(InputError, match=r"last\.safetensors: is damaged"):
            load_model(path, network)
        path.write_bytes(sound)
    load_model(path, network)
    figure(f"one bit flipped in weights: {FLIPS} of {FLIPS} found")


def test_a_flipped_bit_in_the_cache_is_found_and_prepare_mends_it(
    svhn: Callable[..., Path], podium: Callable, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    rng, folder = random.Random(2), tmp_path / "runs" / "svhn" / "prepared"
    path = folder / "train.npy"
    sound = path.read_bytes()
    for _ in range(FLIPS):
        flip(path, rng)
        with pytest.raises(InputError, match=r"train\.npy.* is damaged .*run python -m src\.prepare again"):
            open_cache(folder, "train")
        path.write_bytes(sound)
    open_cache(folder, "train")
    data = bytearray(sound)
    data[8] ^= 1 << 6  # numpy's reader of headers gives up on it
    path.write_bytes(data)
    ended = podium("train", *FLAGS[:-2])
    assert (ended.code, "train.npy is damaged" in ended.err) == (2, True)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert path.read_bytes() == sound
    figure(f"one bit flipped in the cache: {FLIPS} of {FLIPS} found; prepare builds it anew")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 MiB as runs/; skip where that may not be done."""
    folder = tmp_path / "runs"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_while_saving(
    small_disk: Path, svhn: Callable[..., Path], commands: Commands, figure: Callable[[str], None], count: int
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    rng, cwd = random.Random(count), commands.cwd
    commands.run("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    commands.run("train", *FLAGS, "--run-name", "straight")
    wanted, folder = trained(cwd, "straight"), small_disk / "svhn" / "run" / "fold0"
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
        told = (cwd / "err").read_text()
        assert "No space left on device; make room" in told
        assert "Traceback" not in told
        ballast.unlink()
        assert load_state(folder / "last.pt")["step"] >= before
        assert leftovers(folder) == []
        commands.run("train", *FLAGS, "--run-name", "run")
        assert_same(trained(cwd, "run"), wanted)
    figure(f"disk full while saving: {count} of {count} keep the checkpoint, say so and go on identically")
