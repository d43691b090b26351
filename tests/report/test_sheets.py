"""Sheets of thumbnails: every image at its place, within the bytes that the page has."""

import cv2
import numpy as np
import pytest

from src.report.sheets import BLOCK, COLUMNS, make_sheets, sides_of


def test_each_thumbnail_is_at_its_place() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (130, 1, 1, 3))
    images = np.broadcast_to(colours, (130, 64, 128, 3)).astype(np.uint8)
    sheets = make_sheets(lambda some: images[list(some)], len(images), (64, 128), 1_000_000)
    assert len(sheets.files) == 2
    for number in (0, 9, 10, 99, 100, 129):
        sheet = cv2.imdecode(np.frombuffer(sheets.files[number // 100], np.uint8), cv2.IMREAD_COLOR_RGB)
        assert sheet is not None
        assert sheet.shape[1] == COLUMNS * sheets.width
        top, left = number % 100 // COLUMNS * sheets.height, number % COLUMNS * sheets.width
        middle = sheet[top + sheets.height // 2, left + sheets.width // 2].astype(int)
        assert np.abs(middle - colours[number, 0, 0]).max() < 12


@pytest.mark.parametrize("budget", [30_000, 120_000, 10**9])
def test_sheets_fit_into_their_budget_unless_that_is_tiny(budget: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (120, 12, 12, 3)).astype(np.uint8)
    photos = np.stack([cv2.resize(image, (96, 96), interpolation=cv2.INTER_CUBIC) for image in images])
    sheets = make_sheets(lambda some: photos[list(some)], len(photos), (96, 96), budget)
    assert sheets.num_bytes <= 1.05 * budget
    assert sheets.width == 96 or budget < 10**9


def test_a_sample_that_is_easier_than_the_rest_does_not_break_the_budget() -> None:
    photos = np.full((1000, 64, 64, 3), 128, np.uint8)
    sampled = np.linspace(0, 999, 100).astype(int)
    hard = np.setdiff1d(np.arange(1000), sampled)
    photos[hard] = np.random.default_rng(0).integers(0, 256, (900, 64, 64, 3))
    assert make_sheets(lambda some: photos[list(some)], 1000, (64, 64), 300_000).num_bytes <= 300_000


def test_thumbnails_are_multiples_of_jpegs_blocks_and_never_enlarged() -> None:
    assert sides_of((64, 128), 160) == (64, 128)
    assert sides_of((224, 224), 97) == (96, 96)
    assert min(sides_of((10, 300), 48)) == BLOCK


def test_there_may_be_no_image() -> None:
    assert make_sheets(lambda some: np.zeros((0, 8, 8, 3), np.uint8), 0, (8, 8), 1000).files == []
