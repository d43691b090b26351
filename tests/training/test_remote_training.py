"""Training on pixels at a URL: the same weights as on the local file, whatever the server does meanwhile."""

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from src.data import pixels, remote
from src.training import loading
from tests import file_server
from tests.conftest import TRAIN
from tests.file_server import serving
from tests.fixtures import MakeSvhn, Podium, Train
from tests.helpers import run_at
from tests.training.test_ranks import start, weights
from tests.training.test_ranks import train as train_to_the_end

CACHED = (256, 512)  # ten images of a block of 4 MiB
FLAGS = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", "32", "48", "--batch-size", "8", "--fold", "0",
         "--epochs", "6", "--lr", "0.003")  # fmt: skip


def away(root: Path) -> Path:
    """Move the pixels of all caches to another folder, as if they were elsewhere; return it."""
    there = root.parents[1] / "there"
    there.mkdir()
    for path in (root / "cache").glob("*.npy"):
        shutil.move(path, there / path.name)
    return there


def result(fold: Path) -> tuple[str, float, np.ndarray]:
    trained = run_at(fold.parent).trained()[0]
    return trained.result.weights_sha256, trained.result.score_tta, trained.oof()["probabilities_tta"]


def test_every_command_reads_pixels_from_a_url_as_from_the_file(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "BLOCK", 2 * 64 * 128 * 3)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(loading, "MAX_MEMORY_SHARE", 0.0)  # in blocks on the local file too
    svhn(num_train=12, num_val=6, num_test=5)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert podium("train", *TRAIN, "--run-name", "local").code == 0
    assert podium("predict", "--run-name", "local").code == 0
    root = tmp_path / "runs" / "svhn"
    with serving(away(root)) as server:
        where = ("--cache-url", server.url)
        server.faults.extend([None, file_server.refuses, file_server.flips, None, file_server.cuts])
        ended = podium("train", *TRAIN, "--run-name", "remote", *where)
        assert "images are shuffled in blocks" in ended.out
        assert "is read again" in ended.err
        assert result(root / "remote" / "fold0")[:2] == result(root / "local" / "fold0")[:2]
        assert podium("predict", "--run-name", "remote", *where).code == 0
        answers = [(tmp_path / "submissions" / "svhn" / f"{name}.csv").read_bytes() for name in ("local", "remote")]
        assert answers[0] == answers[1]
        assert podium("evaluate", "--run-name", "remote", "--folds", 0, *where).code == 0
        ranges = server.blocks_asked()
        assert len(ranges) - len(set(ranges)) == 3  # each block once, but for what went wrong
        assert podium("doctor", "--deep", *where).out.count("as it was written") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--cache-url", "file:///nowhere"), r"--cache-url: file:///nowhere/train_\S+\.npy cannot be read \(not there"),
        (("--cache-url", "nosuch://x"), "--cache-url nosuch://x/.*: Protocol not known: nosuch"),
        (("--cache-url", "file:///nowhere", "--cache-local-gb", "0.1"), "--cache-local-gb 0.1: must be at least 1"),
    ],
    ids=["nowhere", "protocol", "limit"],
)
def test_a_wrong_url_is_one_line(train: Train, flags: tuple[str, ...], words: str) -> None:
    _, ended = train("run", *flags)
    assert ended.code == 2
    assert re.fullmatch(f"error: {words}.*\n", ended.err), ended.err


def test_a_fold_that_began_on_the_whole_cache_does_not_change_its_order(train: Train, tmp_path: Path) -> None:
    fold, ended = train("run", "--epochs", 1)
    assert ended.code == 0
    (fold / "oof.npz").unlink()
    there = away(tmp_path / "runs" / "svhn")
    _, ended = train("run", "--epochs", 1, "--cache-url", f"file://{there}")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--cache-url: fold 0 began shuffled over the whole cache" in ended.err


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    """Return a folder with a prepared svhn of large images, ten blocks of them, and the pixels in there/."""
    svhn(num_train=90, num_val=9, num_test=3)
    assert podium("prepare", "--num-folds", 2, "--image-size", *CACHED).code == 0
    away(tmp_path / "runs" / "svhn")
    return tmp_path


def digest(cwd: Path, name: str) -> str:
    return run_at(cwd / "runs" / "svhn" / name).trained()[0].result.weights_sha256


@pytest.mark.slow
def test_a_server_that_is_gone_for_20_seconds_delays_training_and_changes_nothing(prepared: Path) -> None:
    train_to_the_end(prepared, 1, *FLAGS, "--run-name", "straight", "--cache-url", f"file://{prepared / 'there'}")
    shutil.rmtree(prepared / "runs" / "svhn" / "cache" / "blocks")
    log = prepared / "runs" / "svhn" / "run" / "fold0" / "log.csv"
    with serving(prepared / "there") as server:
        port = server.server_address[1]
        process = start(prepared, 1, *FLAGS, "--run-name", "run", "--cache-url", server.url)
        while not log.exists():
            time.sleep(0.05)
    shutil.rmtree(prepared / "runs" / "svhn" / "cache" / "blocks")  # or all of them would be here
    time.sleep(20)
    assert process.poll() is None
    with serving(prepared / "there", port):
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert re.search(r"note: http\S+ cannot be read \(.*\); waiting\n", err)
    assert re.search(r"note: http\S+ is read again, after \d\d s\n", err)
    assert digest(prepared, "run") == digest(prepared, "straight")


@pytest.mark.slow
def test_stopped_while_it_waits_for_a_block_it_saves_the_step_and_resumes_to_the_sample(prepared: Path) -> None:
    train_to_the_end(prepared, 1, *FLAGS, "--run-name", "straight", "--cache-url", f"file://{prepared / 'there'}")
    shutil.rmtree(prepared / "runs" / "svhn" / "cache" / "blocks")
    with serving(prepared / "there") as server:
        server.faults.extend([None] * 8 + [file_server.refuses] * 10_000)  # in the middle of the first epoch
        process = start(prepared, 1, *FLAGS, "--run-name", "run", "--cache-url", server.url)
        assert process.stderr
        while "waiting" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 143
        server.faults.clear()
        process = start(prepared, 1, *FLAGS, "--run-name", "run", "--cache-url", server.url)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "resumes after epoch 0, step" in out
    assert digest(prepared, "run") == digest(prepared, "straight")


@pytest.mark.slow
def test_ranks_of_a_machine_fetch_each_block_once_and_train_on_the_same_samples(prepared: Path) -> None:
    with serving(prepared / "there") as server:
        process = start(prepared, 2, *FLAGS, "--epochs", "1", "--run-name", "two", "--cache-url", server.url)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        ranges = server.blocks_asked()
    assert len(ranges) == len(set(ranges)) == 10
    assert weights(prepared, "two")


@pytest.mark.slow
def test_a_wrong_url_ends_all_ranks_with_one_line(prepared: Path) -> None:
    process = start(prepared, 2, *FLAGS, "--cache-url", f"file://{prepared}/nowhere")
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("error: --cache-url: file://") == 1
