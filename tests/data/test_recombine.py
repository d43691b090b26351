"""Recombined strings: each character shows what its label says, at the place of the one that it replaced."""

import numpy as np
import pytest

from src.config import Augment
from src.data.loader import Loader
from src.data.recombine import VARIANTS, recombined

PAD, SIZE, GRID = 10, (24, 48), (4, 3)  # class k is a bright cell k of a grid in the box


def draw(image: np.ndarray, box: np.ndarray, digit: int, ground: int, ink: int) -> None:
    left, top, right, bottom = box.astype(int)
    part = image[top:bottom, left:right]
    part[:] = ground
    height, width = part.shape[0] // GRID[0], part.shape[1] // GRID[1]
    y, x = divmod(digit, GRID[1])
    part[y * height : (y + 1) * height, x * width : (x + 1) * width] = ink


def seen(image: np.ndarray, box: np.ndarray) -> int:
    """Return the number of the cell that differs most from the median of its box; cells 0 to 9 are classes."""
    left, top, right, bottom = box.astype(int)
    part = image[top:bottom, left:right].astype(float).mean(axis=2)
    height, width = part.shape[0] // GRID[0], part.shape[1] // GRID[1]
    cells = part[: height * GRID[0], : width * GRID[1]].reshape(GRID[0], height, GRID[1], width).mean(axis=(1, 3))
    return int(np.abs(cells - np.median(part)).argmax())


@pytest.fixture
def strings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of one or two characters, light on dark and dark on light; their targets and boxes."""
    rng = np.random.default_rng(0)
    images, targets = np.empty((40, *SIZE, 3), np.uint8), np.full((40, 3), PAD)
    boxes = np.full((40, 3, 4), np.nan)
    for row in range(40):
        ground, ink = (30, 220) if row % 2 else (200, 20)
        images[row] = ground
        for place in range(1 + row % 2):
            targets[row, place] = rng.integers(10)
            boxes[row, place] = (6 + 20 * place, 4, 18 + 20 * place, 20)
            draw(images[row], boxes[row, place], int(targets[row, place]), ground, ink)
    return images, targets, boxes


def test_each_character_shows_its_label_at_the_place_of_the_replaced_one(
    strings: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    images, targets, boxes = strings
    made = recombined(images, np.arange(40), targets, boxes, PAD, seed=0)
    assert made.images.shape == (VARIANTS * 40, *SIZE, 3)
    changed = 0
    for row in range(40):
        for new in made.of_image[row]:
            np.testing.assert_array_equal(made.targets[new] == PAD, targets[row] == PAD)
            for place in np.flatnonzero(targets[row] != PAD):
                assert seen(made.images[new], boxes[row, place]) == made.targets[new, place]
                changed += made.targets[new, place] != targets[row, place]
            ground = int(images[row][0, 0, 0])
            assert abs(int(made.images[new][:, :2].mean()) - ground) <= 1  # outside the boxes nothing has changed
    assert 0.6 < changed / (VARIANTS * 60) < 0.85  # 0.8 are replaced, one in ten of them by the same


def test_only_the_given_rows_lend_characters(strings: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    images, targets, boxes = strings
    rows = np.flatnonzero(targets[:, 0] < 5)
    rows = rows[(targets[rows] < 5).sum(axis=1) == (targets[rows] < PAD).sum(axis=1)]
    made = recombined(images, rows, targets[rows], boxes[rows], PAD, seed=0)
    assert set(np.unique(made.targets)) <= {0, 1, 2, 3, 4, PAD}


def test_variants_depend_on_the_seed_alone(strings: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    images, targets, boxes = strings
    one, same, other = (recombined(images, np.arange(40), targets, boxes, PAD, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.images, same.images)
    assert (one.images != other.images).any()


def test_an_image_whose_boxes_do_not_fit_its_label_is_not_used(
    strings: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    images, targets, boxes = strings
    boxes[1, 1] = np.nan  # two characters, one box
    boxes[0, 1] = boxes[1, 0]  # one character, two boxes
    boxes[2, 0, 2] = boxes[2, 0, 0] + 1  # a pixel wide
    made = recombined(images, np.arange(40), targets, boxes, PAD, seed=0)
    assert (made.of_image[:3] == -1).all()
    assert (made.of_image[3:] >= 0).all()
    assert len(made.images) == VARIANTS * 37
    none = recombined(images, np.arange(3), targets[:3], boxes[:3], PAD, seed=0)
    assert (len(none.images), len(none.targets), none.of_image.max()) == (0, 0, -1)


def test_an_epoch_serves_a_variant_instead_of_some_images() -> None:
    images = np.arange(30, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    variants = np.array([[10 + 2 * row, 11 + 2 * row] for row in range(10)])
    variants[3] = -1
    policy = Augment(**dict.fromkeys(vars(Augment()), 0.0) | {"recombine": 0.5})
    loader = Loader(
        images=images, rows=np.arange(30), targets=np.arange(30)[:, None], image_size=(8, 8), batch_size=5,
        policy=policy, variants=variants,
    )  # fmt: skip
    assert (loader.num_images, len(loader)) == (10, 2)
    orders = np.stack([loader.order(epoch) for epoch in range(200)])
    origin = np.where(orders < 10, orders, (orders - 10) // 2)
    np.testing.assert_array_equal(np.sort(origin, axis=1), np.arange(10)[None].repeat(200, 0))  # each image once
    assert not np.isin(orders, [16, 17]).any()  # image 3 has none
    assert 0.4 < (orders >= 10).mean() / 0.9 < 0.6
    assert len(np.unique(orders)) == 28
    for batch in loader.epoch(0):
        np.testing.assert_array_equal(batch["target"][:, 0], batch["image"][:, 0, 0, 0])
    plain = Loader(
        images=images[:10], rows=np.arange(10), targets=np.arange(10)[:, None], image_size=(8, 8), batch_size=5,
        policy=policy,
    )  # fmt: skip
    np.testing.assert_array_equal(origin[0], plain.order(0))
