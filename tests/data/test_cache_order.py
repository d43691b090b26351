"""The rows of the train cache are in a random order, and nothing but what blocks hold depends on it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from src.config import Augment
from src.data import cache as caches
from src.data import loader as loading
from src.data.device import on_device
from src.data.keyed import random_order
from src.data.loader import Batches, Loader
from src.training import loading as making
from tests.conftest import TRAIN
from tests.fixtures import DrawImage, MakeSvhn, Podium
from tests.helpers import prepared_at, read_image, run_at, snapshot_at, table_at


@contextmanager
def in_table_order() -> Iterator[None]:
    """Write caches in the order of the label table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caches, "random_order", np.arange)
        yield


def test_every_block_of_a_table_sorted_by_class_holds_all_classes() -> None:
    classes = np.repeat(np.arange(10), 1_700)[random_order(17_000)]
    blocks = classes.reshape(-1, 170)  # of 64x128
    counts = np.stack([np.bincount(block, minlength=10) for block in blocks])
    assert counts.min() > 0
    assert counts.std() < 1.05 * (170 * 0.1 * 0.9) ** 0.5  # as of images drawn at random


def test_the_order_of_the_cache_changes_no_table_and_no_id(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    train = svhn(num_train=40) / "mchar_train"
    for bad in ("000003", "000017", "000025", "000031"):
        (train / f"{bad}.png").write_bytes(b"")
    labels = train.with_suffix(".json")
    entries = json.loads(labels.read_text())
    for copy, original in (("6", "10"), ("21", "1"), ("20", "1"), ("30", "4"), ("28", "34")):
        one, other = (f"{name:0>6}.png" for name in (copy, original))
        (train / one).write_bytes((train / other).read_bytes())
        if copy != "30":
            entries[one] = entries[other]
    labels.write_text(json.dumps(entries))
    for copy, original in (("12", "35"), ("36", "11")):
        small = cv2.resize(read_image(train / f"{original:0>6}.png"), (36, 27), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(train / f"{copy:0>6}.png"), small)
    root = tmp_path / "runs" / "svhn"

    def made() -> tuple[str, list[list[str]], bytes]:
        assert podium("prepare", "--num-folds", 2).code == 0
        (pairs,) = (root / "cache").glob("duplicates_*.json")
        return snapshot_at(root).name, table_at(root, "problems").to_numpy().tolist(), pairs.read_bytes()

    with in_table_order():
        before = made()
        cache = prepared_at(root).cache("train")
        paths, images = list(cache.image_paths), cache.images[:].copy()
    (root / "cache").rename(tmp_path / "old")
    assert made() == before
    kinds = Counter(problem for _, _, problem, _, _ in before[1])
    assert kinds == {"empty": 4, "duplicate": 4, "conflicting labels": 2, "near duplicate": 2}
    cache = prepared_at(root).cache("train")
    assert list(cache.image_paths) == [paths[number] for number in random_order(len(paths))] != paths
    assert (cache.images[cache.rows_of(paths)] == images).all()
    assert (cache.numbers[cache.rows_of(paths)] == np.arange(len(paths))).all()
    test = prepared_at(root).cache("test")
    assert list(test.image_paths) == table_at(root, "test")["image_path"].tolist()
    assert test.numbers.tolist() == list(range(len(test.images)))


def test_a_training_in_memory_ends_with_the_same_bits(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_train=20, num_val=6)
    root = tmp_path / "runs" / "svhn"

    def weights(name: str) -> str:
        assert podium("prepare", "--num-folds", 2).code == 0
        assert podium("train", *TRAIN, "--augment.concat", 0.5, "--run-name", name).code == 0
        return run_at(root / name).trained()[0].result.weights_sha256

    with in_table_order():
        before = weights("one")
    (root / "cache").rename(tmp_path / "old")
    assert weights("two") == before
    for key in ("image_path", "probabilities", "probabilities_tta"):
        first, second = (run_at(root / name).trained()[0].oof()[key] for name in ("one", "two"))
        assert np.array_equal(first, second)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_batches_do_not_depend_on_the_order_of_the_cache(draw_image: DrawImage, on_gpu: bool) -> None:
    table, numbers = np.stack([draw_image(seed, (24, 32)) for seed in range(26)]), random_order(26)
    targets = np.full((20, 6), 10)
    targets[:, 0] = np.arange(20) % 10
    chosen = np.arange(3, 23)  # rows of the table

    def batches(images: np.ndarray, rows: np.ndarray, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        one = Loader(
            images=images, rows=rows, targets=targets, image_size=(24, 32), batch_size=6, pad_class=10, seed=3,
            policy=Augment(concat=0.5, erase=0.5), **options,
        )  # fmt: skip
        served: Batches = on_device(one, torch.device("cpu"), False) if on_gpu else one
        return [(batch["image"], batch["target"]) for batch in served.epoch(1)]

    one = batches(table, chosen)
    other = batches(table[numbers], np.argsort(numbers)[chosen], numbers=numbers)
    assert len(one) == 3
    for batch, same in zip(one, other, strict=True):
        assert all(torch.equal(*pair) for pair in zip(batch, same, strict=True))


def test_in_blocks_every_row_is_read_in_the_caches_order_and_oof_is_listed_as_ever(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn(num_train=20, num_val=6)
    assert podium("prepare", "--num-folds", 2).code == 0
    root, read, gather = tmp_path / "runs" / "svhn", [], loading.gather

    def watched(images: Any, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        read.append(rows)
        return gather(images, rows, size)

    assert podium("train", *TRAIN, "--epochs", 1, "--run-name", "large").code == 0
    monkeypatch.setattr(loading, "gather", watched)
    monkeypatch.setattr(making, "MAX_MEMORY_SHARE", 0.0)
    assert podium("train", *TRAIN, "--epochs", 1, "--run-name", "blocks").code == 0
    assert len(read[-1]) > 10  # the held-out images, in one batch
    assert (np.diff(read[-1]) > 0).all()
    large, blocks = (run_at(root / name).trained()[0].oof() for name in ("large", "blocks"))
    assert np.array_equal(blocks["image_path"], large["image_path"])
    cache = prepared_at(root).cache("train")
    assert not np.array_equal(blocks["image_path"], [cache.image_paths[row] for row in read[-1]])
