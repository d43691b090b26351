"""Batches do not depend on threads, cover every row, and give each image the same pixels everywhere."""

import dataclasses
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.config import NO_AUGMENT, Augment
from src.core.world import World
from src.data.images import resize
from src.data.in_blocks import WINDOW, Blocks
from src.data.loader import Loader, gather
from src.data.pixels import Images, Pixels, hash_blocks
from tests.fixtures import DrawImage

SIZE = (24, 32)


@pytest.fixture
def images(draw_image: DrawImage) -> np.ndarray:
    return np.stack([draw_image(seed, SIZE) for seed in range(23)])


def loader(images: np.ndarray, **options: Any) -> Loader:
    """Return a loader of all images but the first three, in reverse order; a row's target is its number, twice."""
    rows = np.arange(3, len(images))[::-1].copy()
    targets = np.stack([rows, rows], axis=1)
    settings: dict[str, Any] = {"image_size": SIZE, "batch_size": 6, **options}
    return Loader(images=images, rows=rows, targets=targets, **settings)


@pytest.mark.parametrize("policy", [None, Augment(), Augment(effects=1.0)])
@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_batches_do_not_depend_on_the_number_of_threads(
    images: np.ndarray, policy: Augment | None, num_threads: int
) -> None:
    one, other = (list(loader(images, policy=policy, num_threads=n).epoch(2)) for n in (0, num_threads))
    assert len(one) == len(other) == (3 if policy else 4)
    for batch, same in zip(one, other, strict=True):
        assert all(torch.equal(batch[key], same[key]) for key in ("index", "image", "target"))


def served(serving: Loader, epoch: int) -> list[int]:
    return torch.cat([batch["index"] for batch in serving.epoch(epoch)]).tolist()


def test_scoring_serves_every_row_once_and_in_order(images: np.ndarray) -> None:
    assert served(loader(images), 0) == list(range(22, 2, -1))
    assert [len(batch["index"]) for batch in loader(images).epoch(0)] == [6, 6, 6, 2]


def test_a_batch_has_several_changed_copies_of_its_images(images: np.ndarray) -> None:
    twice = loader(images, policy=replace(NO_AUGMENT, brightness=0.5), repeats=2)
    seen = []
    for batch in twice.epoch(0):
        rows = batch["index"].tolist()
        assert rows[::2] == rows[1::2]
        seen += rows[::2]
        assert all(not torch.equal(one, other) for one, other in batch["image"].unflatten(0, (-1, 2)))
    assert len(set(seen)) == len(seen) == 9
    assert set(seen) != set(served(twice, 1))
    assert [len(batch["index"]) for batch in loader(images, policy=NO_AUGMENT, repeats=3).epoch(0)] == [6, 6, 6]
    assert len(served(loader(images, policy=NO_AUGMENT, batch_size=40, repeats=40), 0)) == 40


def test_training_serves_no_row_twice_per_epoch_and_every_row_within_a_few(images: np.ndarray) -> None:
    training = loader(images, policy=NO_AUGMENT)
    assert [len(batch["index"]) for batch in training.epoch(0)] == [6, 6, 6]  # no small last batch
    epochs = [served(training, epoch) for epoch in range(8)]
    assert all(len(set(rows)) == 18 for rows in epochs)
    assert set().union(*epochs) == set(range(3, 23))
    exact = [sorted(served(loader(images, policy=NO_AUGMENT, batch_size=5), epoch)) for epoch in range(3)]
    assert exact == [list(range(3, 23))] * 3


def test_fewer_rows_than_a_batch_make_one_batch(images: np.ndarray) -> None:
    assert len(served(loader(images, policy=NO_AUGMENT, batch_size=64), 0)) == 20


def test_the_order_differs_between_epochs_and_seeds(images: np.ndarray) -> None:
    orders = {tuple(loader(images, policy=NO_AUGMENT, seed=s).order(e)) for s in range(5) for e in range(5)}
    assert len(orders) == 25
    again = loader(images, policy=NO_AUGMENT, seed=3).order(4)
    assert (again == loader(images, policy=NO_AUGMENT, seed=3).order(4)).all()


@pytest.mark.parametrize("policy", [None, NO_AUGMENT, Augment()])
def test_each_target_stays_with_its_image(images: np.ndarray, policy: Augment | None) -> None:
    for batch in loader(images, policy=policy).epoch(1):
        assert batch["image"].dtype == torch.uint8
        assert torch.equal(batch["target"], batch["index"][:, None].repeat(1, 2))
        if policy != Augment():
            assert (batch["image"].numpy() == images[batch["index"].numpy()]).all()


@pytest.mark.parametrize("size", [SIZE, (12, 16), (20, 20)])
def test_training_validation_and_test_see_identical_pixels(images: np.ndarray, size: tuple[int, int]) -> None:
    """Different resizing of train and test images once cost a public solution forty points."""
    loaders = [
        loader(images, image_size=size, policy=NO_AUGMENT, batch_size=5),  # training
        loader(images, image_size=size),  # validation
        Loader(  # test
            images=images,
            rows=np.arange(23),
            targets=np.zeros((23, 0), np.int64),
            image_size=size,
            batch_size=4,
            hflip_ok=True,
        ),
    ]
    for one in loaders:
        for batch in one.epoch(0):
            for row, image in zip(batch["index"].tolist(), batch["image"].numpy(), strict=True):
                assert (image == resize(images[row], size)).all()


def test_augmented_images_are_the_same_if_an_epoch_is_repeated_and_differ_in_the_next(images: np.ndarray) -> None:
    def pixels(epoch: int) -> dict[int, bytes]:
        batches = loader(images, policy=Augment(), batch_size=5).epoch(epoch)
        return {
            row: image.tobytes()
            for batch in batches
            for row, image in zip(batch["index"].tolist(), batch["image"].numpy(), strict=True)
        }

    first, again, later = pixels(0), pixels(0), pixels(1)
    assert first == again
    assert all(first[row] != later[row] for row in first)


def test_an_image_that_is_drawn_several_times_is_changed_otherwise_each_time(images: np.ndarray) -> None:
    shares = np.cumsum([0.7, *[0.3 / 19] * 19])
    drawing = loader(images, policy=Augment(), shares=shares)
    batches = list(drawing.epoch(1))
    rows, found = (torch.cat([batch[key] for batch in batches]) for key in ("index", "image"))
    repeated = found[rows == rows.mode().values]
    assert len(repeated) > 9
    assert len({image.numpy().tobytes() for image in repeated}) == len(repeated)
    assert all(
        torch.equal(one["image"], two["image"]) for one, two in zip(batches[1:], drawing.epoch(1, 1), strict=True)
    )
    ranks = [dataclasses.replace(drawing, world=World(rank, 2)) for rank in range(2)]
    parts = torch.cat([next(iter(own.epoch(1)))["image"] for own in ranks])
    assert {image.numpy().tobytes() for image in parts} == {image.numpy().tobytes() for image in batches[0]["image"]}


def test_a_batch_is_a_copy_of_the_cache(images: np.ndarray) -> None:
    images.setflags(write=False)
    batch = next(iter(loader(images).epoch(0)))
    batch["image"].zero_()
    assert images.any()
    assert gather(images, np.array([0]), SIZE).flags.writeable


def test_stopping_an_epoch_early_ends_its_threads(images: np.ndarray) -> None:
    batches = loader(images, policy=Augment(), num_threads=2, batch_size=1).epoch(0)
    before = threading.active_count()
    next(batches)
    assert threading.active_count() > before
    assert isinstance(batches, Generator)
    batches.close()
    assert threading.active_count() == before


def test_progressive_resize_ends_at_full_size_and_affects_training_only(images: np.ndarray) -> None:
    growing = loader(images, policy=Augment(), progressive_resize=0.5, resize_epochs=4)
    assert [growing.size_at(epoch) for epoch in range(6)] == [
        (16, 16), (16, 16), (16, 24), (24, 32), (24, 32), (24, 32)
    ]  # fmt: skip
    for epoch in (0, 2, 5):
        assert all(tuple(batch["image"].shape[1:3]) == growing.size_at(epoch) for batch in growing.epoch(epoch))
    assert loader(images).size_at(0) == SIZE


HEIGHT = 256  # rows of a block in these tests


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of HEIGHT images of one pixel."""
    monkeypatch.setattr("src.data.pixels.BLOCK", 3 * HEIGHT)


@pytest.mark.usefixtures("small_blocks")
def test_in_blocks_every_row_is_served_once_and_reads_are_local() -> None:
    count, batch_size = HEIGHT * 80, 64
    images = np.zeros((count, 1, 1, 3), np.uint8)
    rows = np.arange(count)
    blocks = Loader(
        images=images, rows=rows, targets=rows[:, None], image_size=(1, 1), batch_size=batch_size, policy=Augment(),
        in_blocks=True, seed=4,
    )  # fmt: skip
    orders = [blocks.order(epoch) for epoch in (0, 1)]
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(blocks.order(0), orders[0])
    for order in orders:
        assert sorted(order) == rows.tolist()
        batches = order.reshape(-1, batch_size)
        touched = [len(np.unique(batch // HEIGHT)) for batch in batches]
        assert max(touched) <= WINDOW + 1
        assert min(touched[40:-40]) > WINDOW // 2  # but still mixed
        # Rows from anywhere in the data come at any time of the epoch.
        assert abs(np.corrcoef(order, rows)[0, 1]) < 0.5


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_threads", [0, 3])
@pytest.mark.parametrize("mapped", [True, False])
def test_in_blocks_each_block_is_read_once_and_kept_no_longer_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, num_threads: int
) -> None:
    count = HEIGHT * 80 + 17
    images = np.arange(count, dtype=np.int64)[:, None].view(np.uint8).reshape(count, 1, 8)[..., :3, None]
    images = np.ascontiguousarray(images.transpose(0, 1, 3, 2))  # (N, 1, 1, 3): each row encodes its number
    np.save(tmp_path / "train.npy", images)
    cached: Images = images
    if mapped:
        cached = Pixels(tmp_path / "train.npy", (count, 1, 1, 3), hash_blocks(images), "prepare")
    rows = np.arange(count)[::2]
    blocks = Loader(
        images=cached, rows=rows, targets=rows[:, None], image_size=(1, 1), batch_size=50, policy=NO_AUGMENT,
        in_blocks=True, num_threads=num_threads,
    )  # fmt: skip
    read, most, original = [], 0, Blocks._read

    def counted(self: Blocks, block: int) -> np.ndarray:
        nonlocal most
        read.append(block)
        most = max(most, len(self.kept))
        return original(self, block)

    monkeypatch.setattr(Blocks, "_read", counted)
    if isinstance(cached, Pixels):
        assert np.array_equal(cached.read_block(0), images[:HEIGHT])  # opened now
        np.save(tmp_path / "other.npy", images + 1)
        (tmp_path / "other.npy").replace(tmp_path / "train.npy")  # as prepare does
    for batch in blocks.epoch(1):
        decoded = batch["image"].numpy()[:, 0, 0].astype(np.int64) @ [1, 256, 65536]
        assert (decoded == batch["index"].numpy()).all()
    assert sorted(read) == list(range(81))
    assert most <= WINDOW + 2


def test_in_blocks_strings_are_concatenated_within_a_batch(images: np.ndarray) -> None:
    one = loader(images, policy=Augment(concat=1.0), pad_class=10, in_blocks=True)
    positions = one.order(0)[:6]
    partners, _, _ = one.concatenated(positions, 0)
    assert sorted(partners) == sorted(positions)
    assert (partners != positions).all()


@pytest.mark.parametrize("size", [2, 3])
def test_in_blocks_concatenated_samples_do_not_depend_on_the_number_of_ranks(images: np.ndarray, size: int) -> None:
    targets = np.full((len(images), 6), 10)
    targets[:, 0] = np.arange(len(images)) % 10

    def samples(rank: int, size: int) -> dict[int, tuple[bytes, bytes]]:
        one = Loader(
            images=images, rows=np.arange(len(images)), targets=targets, image_size=SIZE, batch_size=6, pad_class=10,
            policy=Augment(concat=1.0, hflip=0.0), in_blocks=True, world=World(rank, size),
        )  # fmt: skip
        batches = [zip(batch["index"], batch["image"], batch["target"], strict=True) for batch in one.epoch(0)]
        return {
            int(row): (image.numpy().tobytes(), target.numpy().tobytes())
            for batch in batches
            for row, image, target in batch
        }

    parts = [samples(rank, size) for rank in range(size)]
    assert {row: sample for part in parts for row, sample in part.items()} == samples(0, 1)


def test_in_blocks_concatenated_images_and_targets_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.pixels.BLOCK", 5 * 8 * 12 * 3)
    count, pad_class = 40, 10
    images = np.empty((count, 8, 12, 3), np.uint8)
    images[:] = (np.arange(count) * 6)[:, None, None, None]  # each has its own grey level ...
    targets = np.full((count, 6), pad_class)
    targets[:, 0] = np.arange(count) % 10
    policy = dataclasses.replace(NO_AUGMENT, concat=1.0)
    one = Loader(
        images=images, rows=np.arange(count), targets=targets, image_size=(8, 12), batch_size=8, policy=policy,
        pad_class=pad_class, in_blocks=True,
    )  # fmt: skip
    for batch in one.epoch(0):
        left, right = (batch["image"][:, 4, column, 0].numpy() // 6 for column in (0, 11))
        assert (left == batch["index"].numpy()).all()
        assert (right % 10 == batch["target"][:, 1].numpy()).all()  # ... which encodes its digit
