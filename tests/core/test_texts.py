"""Texts in two arrays behave as a list of str, and are found by their hash."""

import numpy as np
import pytest

from src.core import texts as packing
from src.core.texts import Texts

ODD = ["", "a", "é", "猫/1.png", "a", "\udc80", "b" * 300, "", "A"]


def test_they_are_a_sequence_of_the_same_texts() -> None:
    texts = Texts.of(iter(ODD))
    assert len(texts) == len(ODD)
    assert list(texts) == ODD
    assert texts == ODD
    assert texts != ODD[:-1]
    assert texts == Texts.of(ODD)
    assert [texts[row] for row in range(-len(ODD), len(ODD))] == ODD + ODD
    assert texts[2:5] == ODD[2:5]
    assert texts.pick(np.array([3, 0])) == [ODD[3], ""]
    assert Texts.joined([texts, Texts.of(()), texts]) == ODD + ODD
    with pytest.raises(IndexError):
        texts[len(ODD)]
    assert list(Texts.of(())) == []


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_the_first_row_of_each_text_is_found(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "CHUNK", chunk)
    texts = Texts.of(ODD)
    wanted = ["a", "z", "", "\udc80", "A", "b" * 299]
    assert texts.find(wanted).tolist() == [1, -1, 0, 5, 8, -1]
    assert texts.find(()).tolist() == []
    assert Texts.of(()).find(wanted).tolist() == [-1] * 6


def test_texts_of_the_same_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "xxh3_64_intdigest", lambda data: len(bytes(data)) % 2)
    texts = Texts.of(ODD)
    assert texts.find([*ODD, "c", "dd"]).tolist() == [*map(ODD.index, ODD), -1, -1]
    assert texts.repeated() == [[0, 7], [1, 4]]


def test_repeated_texts_are_listed_with_their_rows() -> None:
    assert sorted(Texts.of(ODD).repeated()) == [[0, 7], [1, 4]]
    assert Texts.of("abc").repeated() == []
    assert Texts.of(()).repeated() == []


def test_their_order_is_that_of_str() -> None:
    order = Texts.of(ODD).order()
    assert order is not None
    assert [ODD[row] for row in order] == sorted(ODD)
    assert Texts.of(sorted(ODD)).order() is None
