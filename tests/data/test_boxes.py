"""Boxes are where the cache shows their content, and a wrong cell is one line."""

import json

import numpy as np
import pytest

from src.competitions.boxes import read_boxes
from src.competitions.spec import FITS, Fit
from src.core.errors import InputError
from src.data.boxes import boxes_in_cache
from src.data.images import fitted


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(40, 120), (90, 60), (32, 64)])
def test_a_box_is_where_the_cache_shows_its_content(fit: Fit, shape: tuple[int, int]) -> None:
    left, top, width, height = shape[1] // 2 - 8, shape[0] // 2 - 6, 15, 11
    image = np.zeros((*shape, 3), np.uint8)
    image[top : top + height, left : left + width] = 255
    shown = fitted(image, (32, 64), fit, bars=0)[..., 0] > 127
    text = json.dumps([[left, top, width, height]])
    found = boxes_in_cache([text], ["a.png"], np.array([shape]), (32, 64), fit, 2)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    wanted = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    np.testing.assert_allclose(found[0, 0], wanted, atol=1)
    assert np.isnan(found[0, 1]).all()


def test_a_box_ends_with_its_image_and_unknown_sizes_have_none() -> None:
    texts = ["[[-5, -5, 30, 100]]", "[[1, 1, 2, 2]]", "[]"]
    found = boxes_in_cache(texts, list("abc"), np.array([[20, 20], [0, 0], [20, 20]]), (10, 10), "stretch", 1)
    np.testing.assert_array_equal(found[0, 0], [0, 0, 10, 10])
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("left", "are not JSON"),
        ("[1, 2, 3, 4]", "are not lists of left"),
        ("[[1, 2, 3]]", "are not lists of left"),
        ('[["a"]]', "are not JSON"),
        ("[" * 100_000, "are not JSON"),
    ],
)
def test_a_cell_without_boxes_is_one_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"a.png: its boxes {words}"):
        read_boxes(text, "a.png")


def test_an_empty_cell_has_no_boxes() -> None:
    assert read_boxes("", "a.png").shape == (0, 4)
