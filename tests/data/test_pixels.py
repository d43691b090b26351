"""Pixels of a cache: checked in blocks, when the first image of a block is read and not before."""

import time
from pathlib import Path

import numpy as np
import pytest

from src.core.errors import InputError
from src.data import pixels as checking
from src.data.loader import Loader
from src.data.pixels import Pixels, hash_blocks, rows_per_block

SHAPE = (40, 8, 10, 3)
HEIGHT = 6  # images of a block


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Return images that make seven blocks, the last one short."""
    monkeypatch.setattr(checking, "BLOCK", HEIGHT * 8 * 10 * 3 + 5)
    assert rows_per_block(SHAPE[1:3]) == HEIGHT
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def file(images: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "cache.npy", images)
    return tmp_path / "cache.npy"


def damage(file: Path, row: int) -> None:
    """Flip one bit of an image."""
    data = bytearray(file.read_bytes())
    data[len(data) - (SHAPE[0] - row) * 240 + 7] ^= 4
    file.write_bytes(data)


def opened(file: Path, images: np.ndarray) -> Pixels:
    return Pixels(file, SHAPE, hash_blocks(images), "python -m src.prepare")


@pytest.mark.parametrize(
    "index", [3, -1, slice(4, 21), slice(None), [1, 30, 7], np.array([39, 0, 12]), np.array([], np.int64)], ids=str
)
def test_it_is_indexed_like_an_array(file: Path, images: np.ndarray, index: object) -> None:
    found = opened(file, images)
    assert len(found) == 40
    assert found.shape == SHAPE
    assert found.nbytes == images.nbytes
    picked = images[index]  # type: ignore[call-overload]
    assert np.array_equal(found[index], picked)


@pytest.mark.parametrize("row", [0, 5, 6, 17, 38, 39])
def test_damage_is_told_when_its_block_is_read_and_not_before(file: Path, images: np.ndarray, row: int) -> None:
    damage(file, row)
    found, block = opened(file, images), row // HEIGHT
    others = np.array([other for other in range(40) if other // HEIGHT != block])
    assert np.array_equal(found[others], images[others])
    for index in (np.array([row]), block * HEIGHT, slice(block * HEIGHT, block * HEIGHT + 1)):
        with pytest.raises(InputError, match=rf"cache\.npy: is damaged \(images {block * HEIGHT:,} to .*prepare again"):
            found[index]
    with pytest.raises(InputError, match="is damaged"):
        found.check_all()
    with pytest.raises(InputError, match="is damaged"):
        found.read_block(block)


def test_a_block_is_hashed_once(file: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found, hashed = opened(file, images), []
    real = checking.hash_block

    def counted(block: np.ndarray) -> str:
        hashed.append(len(block))
        return real(block)

    monkeypatch.setattr(checking, "hash_block", counted)
    for _ in range(3):
        found[np.array([0, 1, 13])]
    assert hashed == [6, 6]
    found.check_all()
    assert sum(hashed) == 40
    found[:]
    assert sum(hashed) == 40
    found.read_block(0)  # from the disk, so it is checked each time
    assert sum(hashed) == 46


def test_the_background_check_reads_everything_and_keeps_damage_to_itself(file: Path, images: np.ndarray) -> None:
    found = opened(file, images)
    found.check_in_background()
    for _ in range(200):
        if found.all_checked:
            break
        time.sleep(0.01)
    assert found.all_checked
    damage(file, 3)
    found = opened(file, images)
    found.check_in_background()
    time.sleep(0.05)
    with pytest.raises(InputError, match="is damaged"):
        found[2]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr"])
def test_a_cut_file_is_one_line(file: Path, images: np.ndarray, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cache\.npy: is damaged"):
        opened(file, images)


def test_another_array_in_its_place_is_refused(file: Path, images: np.ndarray) -> None:
    for other in (images[:39], images.astype(np.int8), images[..., :2]):
        np.save(file, other)
        with pytest.raises(InputError, match="it holds"):
            opened(file, images)


def test_a_loader_in_blocks_reads_the_same_and_tells_damage(file: Path, images: np.ndarray) -> None:
    def loader(served: np.ndarray | Pixels) -> Loader:
        return Loader(
            images=served,
            rows=np.arange(40),
            targets=np.zeros((40, 1), np.int64),
            image_size=(8, 10),
            batch_size=8,
            in_blocks=True,
        )

    batches = list(loader(opened(file, images)).epoch(0))
    assert np.array_equal(np.concatenate([batch["image"].numpy() for batch in batches]), images)
    damage(file, 33)
    with pytest.raises(InputError, match="images 30 to 35"):
        list(loader(opened(file, images)).epoch(0))
