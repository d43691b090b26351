"""--augment.text-crop and --box-head: the box around a string as its image is cut, moved, joined and served."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from src.config import Augment
from src.config.augment import NO_AUGMENT
from src.data.augmentations import draw_params
from src.data.boxes import around_all
from src.data.device import on_device
from src.data.loader import Batch, Loader

SIZE = (60, 80)
BOX = np.array([0.25, 0.3, 0.6, 0.9])
PAD_CLASS = 10
CROP = replace(NO_AUGMENT, text_crop=1.0)


def corners(policy: Augment, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the outputs' left top and right bottom lie in the images, in shares; each (B, 2)."""
    params = draw_params(policy, np.arange(len(boxes)), SIZE, seed=1, epoch=0, boxes=boxes)
    ends = np.array([[-0.5, -0.5, 1], [SIZE[1] - 0.5, SIZE[0] - 0.5, 1]])  # a pixel's centre is its number
    found = (np.einsum("bij,kj->bki", params.matrices, ends) + 0.5) / [SIZE[1], SIZE[0]]
    return found[:, 0], found[:, 1]


def test_a_crop_has_the_whole_string_and_any_margin() -> None:
    start, end = corners(CROP, np.tile(BOX, (500, 1)))
    assert (start >= -1e-9).all()
    assert (end <= 1 + 1e-9).all()
    assert (start <= BOX[:2] + 1e-9).all()
    assert (end >= BOX[2:] - 1e-9).all()
    kept = np.concatenate([start / BOX[:2], (1 - end) / (1 - BOX[2:])], axis=1)
    np.testing.assert_allclose(kept.mean(axis=0), 0.5, atol=0.05)
    assert np.abs(np.corrcoef(kept.T) - np.eye(4)).max() < 0.15
    assert kept.std(axis=0).min() > 0.25


def test_a_crop_comes_as_often_as_asked_and_only_where_the_box_is_known() -> None:
    boxes = np.tile(BOX, (400, 1))
    boxes[:100] = np.nan
    start, end = corners(replace(CROP, text_crop=0.3), boxes)
    whole = (np.abs(start) < 1e-9).all(axis=1) & (np.abs(end - 1) < 1e-9).all(axis=1)
    assert whole[:100].all()
    assert 0.6 < whole[100:].mean() < 0.8


def test_other_moves_are_the_same_within_the_part_that_is_shown() -> None:
    policy = replace(NO_AUGMENT, rotate=20.0, zoom=0.3, shift=0.2)
    boxes = np.tile(BOX, (50, 1))
    plain, cropped = (
        draw_params(replace(policy, text_crop=share), np.arange(50), SIZE, seed=1, epoch=0, boxes=boxes).matrices
        for share in (0.0, 1.0)
    )
    crops = draw_params(CROP, np.arange(50), SIZE, seed=1, epoch=0, boxes=boxes).matrices
    last = np.tile([[[0.0, 0.0, 1.0]]], (50, 1, 1))
    np.testing.assert_allclose(cropped, crops @ np.concatenate([plain, last], axis=1), atol=1e-9)


def test_the_box_around_all_characters() -> None:
    boxes = np.full((6, 2, 4), np.nan)
    boxes[0] = [[8, 6, 16, 30], [20, 12, 40, 36]]
    boxes[1, 0] = boxes[2, 0] = boxes[3, 0] = [8, 6, 16, 30]
    boxes[2, 1] = [30, 12, 20, 36]  # has a negative width
    there = np.array([[True, True], [True, False], [True, True], [True, True], [False, False], [True, True]])
    found = around_all(there, boxes, SIZE)
    np.testing.assert_allclose(found[0], [0.1, 0.1, 0.5, 0.6])
    np.testing.assert_allclose(found[1], [0.1, 0.1, 0.2, 0.5])
    assert np.isnan(found[2:]).all()


def drawn(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a black image with its box in white."""
    image = np.zeros((*size, 3), np.uint8)
    left, top, right, bottom = np.rint(box * [size[1], size[0], size[1], size[0]]).astype(int)
    image[top:bottom, left:right] = 255
    return image


def loader(policy: Augment | None, **options: Any) -> Loader:
    """Return a loader of twelve images of boxes, of one to three digits; the last one's box is not known."""
    rng = np.random.default_rng(0)
    boxes = np.round(np.concatenate([rng.uniform(0.1, 0.4, (12, 2)), rng.uniform(0.5, 0.9, (12, 2))], axis=1) * 20) / 20
    targets = rng.integers(0, 10, (12, 6))
    for row, target in enumerate(targets):
        target[1 + row % 3 :] = PAD_CLASS
    images = np.stack([drawn(box, SIZE) for box in boxes])
    boxes[-1] = np.nan
    facts: dict[str, Any] = {"image_size": SIZE, "batch_size": 6, "seed": 3, "pad_class": PAD_CLASS, **options}
    return Loader(
        images=images, rows=np.arange(12), targets=targets, policy=policy, boxes=boxes, serves_boxes=True, **facts
    )


def white_in(batch: Batch, place: int) -> np.ndarray:
    """Return where the white part of an image is, in shares."""
    image = batch["image"][place, :, :, 0].numpy() > 127
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    size = np.array([image.shape[1], image.shape[0]])
    return np.concatenate([[columns[0], rows[0]] / size, [columns[-1] + 1, rows[-1] + 1] / size])


@pytest.mark.parametrize(
    "policy", [CROP, replace(CROP, shift=0.2, zoom=0.2, concat=0.0), NO_AUGMENT], ids=["crop", "moves", "none"]
)
def test_served_boxes_are_where_the_changed_images_show_them(policy: Augment) -> None:
    for batch in loader(policy, progressive_resize=0.5, resize_epochs=2).epoch(1):
        for place, row in enumerate(batch["index"].tolist()):
            box = batch["boxes"][place].numpy()
            if row == 11:
                assert np.isnan(box).all()
            else:
                np.testing.assert_allclose(box, white_in(batch, place), atol=0.06)  # up to two pixels of 40


def test_boxes_of_joined_strings_are_not_known_and_these_are_not_cropped() -> None:
    joined = []
    for batch in loader(replace(CROP, concat=1.0)).epoch(0):
        lengths = (batch["target"] != PAD_CLASS).sum(dim=1)
        for place, row in enumerate(batch["index"].tolist()):
            joined.append(bool(lengths[place] > 1 + row % 3))
            assert bool(batch["boxes"][place].isnan().all()) == (joined[-1] or row == 11)
    assert any(joined)


def test_the_gpus_path_serves_the_same_boxes() -> None:
    one = loader(replace(Augment(), text_crop=0.7, concat=0.3))
    for ours, theirs in zip(one.epoch(0), on_device(one, torch.device("cpu"), False).epoch(0), strict=True):
        assert torch.equal(ours["boxes"].nan_to_num(-1), theirs["boxes"].nan_to_num(-1))
        assert (ours["image"].float() - theirs["image"].float()).abs().mean() < 1.5
    assert "boxes" not in next(replace(one, serves_boxes=False).epoch(0))
    assert "boxes" not in next(one.in_order().epoch(0))
