"""Labels as text: each kind of answer, written by the report and read by prepare, is the same again."""

from typing import Any

import pytest

from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.data.relabel import _values, label_text

LABELS = Head(name="labels", classes=("rust", "scab", "rot"), kind="labels")
GRADE = Head(name="grade", classes=("0", "1", "2"), kind="ordinal")
ANGLE = Head(name="angle", kind="number", scale=(10.0, 5.0))


def competition(*heads: Head, **options: Any) -> Competition:
    return Competition(
        name="any", heads=heads, image_size=(8, 8), hflip_ok=True, read_train=lambda files: None,  # type: ignore[arg-type, return-value]
        read_test=lambda files: None, columns=("id", "answer"), answer="heads", **options,  # type: ignore[arg-type, return-value]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("heads", "values", "text"),
    [
        ((LABELS,), [1, 0, 1], "rust rot"),
        ((LABELS,), [0, 0, 0], ""),
        ((GRADE,), [2], "2"),
        ((ANGLE,), [12.5], "12.5"),
        ((GRADE, ANGLE), [1, 12.5], "grade=1;angle=12.5"),
    ],
)
def test_a_label_and_its_text_are_the_same(heads: tuple[Head, ...], values: list[Any], text: str) -> None:
    one = competition(*heads)
    assert label_text(values, one) == text
    assert _values(text, one, [9] * len(values), "") == values


def test_of_several_heads_those_that_are_not_named_keep_their_values() -> None:
    assert _values("angle=3", competition(GRADE, ANGLE), [2, 12.5], "") == [2, 3.0]


@pytest.mark.parametrize(
    ("heads", "text", "words"),
    [
        ((LABELS,), "rust mould", "'mould' is no label"),
        ((ANGLE,), "nan", "a number is expected"),
        ((GRADE, ANGLE), "weight=3", "names no head; it is written grade=...;angle=..."),
        ((GRADE, ANGLE), "grade=7", "it is no class"),
    ],
)
def test_what_is_no_label_is_refused(heads: tuple[Head, ...], text: str, words: str) -> None:
    with pytest.raises(InputError, match="cannot be a label") as caught:
        _values(text, competition(*heads), [0, 0.0], "fixes.csv, line 2")
    assert words in str(caught.value)
