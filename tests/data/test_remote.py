"""Blocks of a cache from a URL: fetched ahead, checked, fetched again when they are wrong, kept here up to a limit."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config import NO_AUGMENT
from src.core.errors import InputError
from src.core.world import World
from src.data import pixels as checking
from src.data import remote
from src.data.loader import Loader
from src.data.local_blocks import LocalBlocks
from src.data.pixels import hash_blocks
from src.data.remote import Remote, RemotePixels
from tests import file_server
from tests.file_server import FileServer, serving

SHAPE = (40, 8, 10, 3)
HEIGHT, ROW = 6, 240  # images of a block, bytes of an image
GIB = 1 << 30


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shortly before a block is fetched again; make blocks small."""
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(remote, "PATIENCE_AT_START", 0.1)
    monkeypatch.setattr(checking, "BLOCK", HEIGHT * ROW + 5)


@pytest.fixture
def images(tmp_path: Path) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    (tmp_path / "there").mkdir()
    np.save(tmp_path / "there" / "cache.npy", found)
    return found


@pytest.fixture
def server(images: np.ndarray, tmp_path: Path) -> Iterator[FileServer]:
    with serving(tmp_path / "there") as running:
        yield running


def opened(url: str, images: np.ndarray, folder: Path, limit: int = GIB) -> RemotePixels:
    where = Remote(url=url, folder=folder / "blocks", limit=limit)
    height, width, _ = images.shape[1:]
    return where.open("cache", (len(images), height, width, 3), hash_blocks(images))


def kept(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "blocks" / "cache").iterdir() if path.name.isdecimal())


@pytest.mark.parametrize(
    "index", [3, -1, slice(4, 21), slice(None), [1, 30, 7], np.array([39, 0, 12]), np.array([], np.int64)], ids=str
)
def test_it_is_indexed_like_an_array(images: np.ndarray, tmp_path: Path, index: object) -> None:
    found = opened(f"file://{tmp_path}/there", images, tmp_path)
    assert (len(found), found.shape, found.nbytes) == (40, SHAPE, images.nbytes)
    assert np.array_equal(found[index], images[index])  # type: ignore[call-overload]


def test_a_block_is_fetched_once_and_then_kept_here(server: FileServer, images: np.ndarray, tmp_path: Path) -> None:
    found = opened(server.url, images, tmp_path)
    assert np.array_equal(found[6:20], images[6:20])
    assert len(server.blocks_asked()) == 3
    assert kept(tmp_path) == [1, 2, 3]
    again = opened(server.url, images, tmp_path)
    assert np.array_equal(again[6:24], images[6:24])
    assert len(server.blocks_asked()) == 3


@pytest.mark.parametrize("fault", [file_server.refuses, file_server.cuts, file_server.shortens, file_server.flips,
                                   file_server.hangs_up])  # fmt: skip
def test_what_arrives_wrong_is_fetched_again(
    server: FileServer, images: np.ndarray, tmp_path: Path, fault: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = opened(server.url, images, tmp_path)
    server.faults.extend([fault, None, fault])
    assert np.array_equal(found[:], images)
    err = capsys.readouterr().err
    if fault is not file_server.hangs_up:  # which aiohttp asks again on its own
        assert "cannot be read (" in err
        assert "is read again, after 0 s" in err


def test_a_file_that_stays_wrong_is_one_line(server: FileServer, images: np.ndarray, tmp_path: Path) -> None:
    found = opened(server.url, images, tmp_path)
    server.faults.extend([file_server.flips] * 20)
    with pytest.raises(InputError, match=r"cache.npy: is damaged \(images 6 to 11 differ.*\); copy it there again"):
        found[7]
    assert kept(tmp_path) == []


def test_a_server_that_stays_away_is_one_line(
    server: FileServer, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    found = opened(server.url, images, tmp_path)
    server.faults.extend([file_server.refuses] * 100)
    with pytest.raises(
        InputError, match=r"cache.npy: cannot be read since \d+ s \(503.*\); run the same command again"
    ):
        found[7]


def test_damage_to_a_kept_block_is_noticed_and_mended(server: FileServer, images: np.ndarray, tmp_path: Path) -> None:
    found = opened(server.url, images, tmp_path)
    assert found[0].any()
    path = found.local.path("cache", 0)
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    assert np.array_equal(found[:6], images[:6])
    assert path.read_bytes() == images[:6].tobytes()


def test_only_as_much_is_kept_as_may_be_and_the_oldest_goes_first(images: np.ndarray, tmp_path: Path) -> None:
    found = opened(f"file://{tmp_path}/there", images, tmp_path, limit=4 * HEIGHT * ROW)
    for block in range(4):
        found.read_block(block)
        os.utime(found.local.path("cache", block), (block, block))
    found.read_block(0)  # used now
    found.read_block(5)
    assert kept(tmp_path) == [0, 3, 5]
    other = LocalBlocks(tmp_path / "blocks", HEIGHT * ROW)  # another process, with a smaller limit
    assert kept(tmp_path) == []
    other.write("cache", 6, b"abc")
    assert kept(tmp_path) == [6]


@pytest.mark.parametrize("name", ["other.npy", "cache.npy"])
def test_another_file_at_the_url_is_one_line(images: np.ndarray, tmp_path: Path, name: str) -> None:
    path = tmp_path / "there" / "cache.npy"
    np.save(path, images[1:] if name == "other.npy" else images)
    if name == "cache.npy":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="copy it there again"):
        opened(f"file://{tmp_path}/there", images, tmp_path)
    path.write_bytes(b"x" * 9777)
    with pytest.raises(InputError, match="is not a cache's .npy file"):
        opened(f"file://{tmp_path}/there", images, tmp_path)


def test_a_url_that_cannot_be_read_is_one_line(
    server: FileServer, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, words in [
        (f"{server.url}/nowhere", "not there"),
        (f"file://{tmp_path}/nowhere", "not there"),
        ("nosuch://bucket", "Protocol not known: nosuch"),
        ("http://127.0.0.1:9", "cannot be read since"),
    ]:
        with pytest.raises(InputError, match=words):
            opened(url, images, tmp_path)
    monkeypatch.setitem(sys.modules, "s3fs", None)  # not installed
    with pytest.raises(InputError, match="pip install -r requirements-remote.txt"):
        opened("s3://bucket/folder", images, tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("policy", [None, NO_AUGMENT], ids=["in order", "shuffled"])
def test_a_rank_fetches_the_blocks_of_its_rows_and_no_others(
    server: FileServer, images: np.ndarray, tmp_path: Path, rank: int, policy: Any
) -> None:
    found, rows = opened(server.url, images, tmp_path), np.arange(7, 37)
    loader = Loader(
        images=found, rows=rows, targets=rows[:, None], image_size=SHAPE[1:3], batch_size=4, policy=policy,
        in_blocks=True, world=World(rank, 2),
    )  # fmt: skip
    used = set()
    for batch in loader.epoch(1, 5):
        served = batch["index"].numpy()
        assert np.array_equal(batch["image"].numpy(), images[served])
        used |= set((served // HEIGHT).tolist())
    assert kept(tmp_path) == sorted(used)
    assert len(server.blocks_asked()) == len(used)


def test_processes_on_one_machine_fetch_a_block_once(server: FileServer, images: np.ndarray, tmp_path: Path) -> None:
    """The claim is a lock of a process, so a child takes it here."""
    found = opened(server.url, images, tmp_path)
    with found.local.claimed("cache", 2):
        child = os.fork()
        if not child:
            mine = LocalBlocks(tmp_path / "blocks", GIB)
            with mine.claimed("cache", 3):  # another block is free
                pass
            with mine.claimed("cache", 2):
                os._exit(0 if mine.read("cache", 2) == b"fetched" else 1)
        time.sleep(0.1)
        found.local.write("cache", 2, b"fetched")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_blocks_are_fetched_at_the_same_time(images: np.ndarray, tmp_path: Path) -> None:
    together = threading.Barrier(7, timeout=10)

    def read(block: int) -> np.ndarray:
        together.wait()
        return images[block]

    ahead = remote.ReadAhead(read, range(7))
    for block in (1, 0, 2, 6, 5, 4, 3):  # threads of a loader may swap neighbours
        assert np.array_equal(ahead(block), images[block])
    assert not ahead.queue
    assert not ahead.reading
