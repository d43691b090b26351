"""From predictions to the submission's table, for every form of it, and every reason to refuse one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions import food11
from src.competitions.decision import Rule
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.writing import write_csv
from src.inference.answers import answers_table, joined, validate
from src.inference.testset import TestSet

ABC = Head(name="label", classes=("a", "b", "c"))
TAGS = Head(name="tags", classes=("a", "b"), kind="labels")
GRADE = Head(name="grade", classes=("0", "1", "2"), kind="ordinal")
AGE = Head(name="age", kind="number", scale=(40.0, 10.0))


def competition(*heads: Head, **fields: Any) -> Competition:
    """Return a competition with these heads."""
    given: dict[str, Any] = {"class_names": (), "columns": ("id", "label"), "metric": "accuracy", **fields}
    return replace(food11.COMPETITION, heads=heads, **given)


def asked(*rows: tuple[str, ...]) -> TestSet:
    """Return what is asked for: image, id and perhaps head, a row each."""
    table = pd.DataFrame(rows, columns=["image_path", "id", "head"][: len(rows[0])])
    return TestSet(table=table, sources=None, note="", sample="input")


def array(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


SEVERAL = asked(("1.png", "x"), ("2.png", "y"), ("2.png", "x"), ("3.png", "z"))  # 2.png is of x and of y
ONE_EACH = asked(("1.png", "x"), ("2.png", "y"))


@pytest.mark.parametrize(
    ("combine", "head", "predicted", "expected"),
    [
        ("mean", ABC, [[0.8, 0.2, 0], [0.2, 0.2, 0.6], [0, 1, 0]], [[0.5, 0.2, 0.3], [0.2, 0.2, 0.6], [0, 1, 0]]),
        ("max", ABC, [[0.8, 0.2, 0], [0.2, 0.2, 0.6], [0, 1, 0]], [[0.5, 0.125, 0.375], [0.2, 0.2, 0.6], [0, 1, 0]]),
        ("mean", TAGS, [[0.9, 0.1], [0.3, 0.7], [1, 1]], [[0.6, 0.4], [0.3, 0.7], [1, 1]]),
        ("max", TAGS, [[0.9, 0.1], [0.3, 0.7], [1, 1]], [[0.9, 0.7], [0.3, 0.7], [1, 1]]),
        ("max", GRADE, [[0.9, 0.1], [0.3, 0.2], [1, 1]], [[0.9, 0.2], [0.3, 0.2], [1, 1]]),
        ("mean", AGE, [[-3], [7], [30]], [[2], [7], [30]]),
        ("max", AGE, [[-3], [-7], [30]], [[-3], [-7], [30]]),
    ],
)
def test_several_images_of_an_id_are_combined(
    combine: str, head: Head, predicted: list[list[float]], expected: list[list[float]]
) -> None:
    found = joined(array(*predicted), SEVERAL, competition(head, combine=combine))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_image_that_serves_several_ids_is_predicted_once() -> None:
    test = asked(("2.png", "x"), ("1.png", "y"), ("2.png", "z"))
    assert test.image_paths == ["2.png", "1.png"]
    assert joined(array([0.1], [0.2]), test, competition(AGE)).tolist() == array([0.1], [0.2], [0.1]).tolist()


def written(
    tmp_path: Path, predicted: np.ndarray, test: TestSet, one: Competition, rule: Rule | None = None
) -> list[str]:
    """Return the lines of a submission that was found to be valid."""
    path = tmp_path / "submission.csv"
    write_csv(path, answers_table(predicted, test, one, rule or Rule()))
    validate(path, test, one)
    return path.read_text().splitlines()


SHARES = array([0.2, 0.5, 0.3], [0.6, 0.3, 0.1])
BOTH = array([0.2, 0.5, 0.3, 0.9, 0.1], [0.6, 0.3, 0.1, 0.6, 0.7])
TWO = (ABC, replace(ABC, name="other", classes=("x", "y")))
ROWS = asked(("1.png", "1_other", "other"), ("1.png", "1_label", "label"), ("2.png", "2_label", "label"))


@pytest.mark.parametrize(
    ("one", "test", "predicted", "expected"),
    [
        (competition(ABC), ONE_EACH, SHARES, ["id,label", "x,b", "y,a"]),
        (competition(TAGS), ONE_EACH, array([0.6, 0.7], [0.1, 0.2]), ["id,label", "x,a b", "y,"]),
        (competition(replace(TAGS, required=True)), ONE_EACH, array([0.6, 0.7], [0.1, 0.2]),
         ["id,label", "x,a b", "y,b"]),
        (competition(ABC, num_answers=2), ONE_EACH, SHARES, ["id,label", "x,b c", "y,a b"]),
        (competition(ABC, num_answers=5, separator="|"), ONE_EACH, SHARES, ["id,label", "x,b|c|a", "y,a|b|c"]),
        (competition(AGE, metric="rmse"), ONE_EACH, array([41.25], [-3]), ["id,label", "x,41.25", "y,-3"]),
        (competition(GRADE), ONE_EACH, array([0.9, 0.4], [0.9, 0.6]), ["id,label", "x,1", "y,2"]),
        (competition(ABC, answer="probabilities", columns=("id",)), ONE_EACH, SHARES,
         ["id,a,b,c", "x,0.2,0.5,0.3", "y,0.6,0.3,0.1"]),
        (competition(GRADE, answer="probabilities", columns=("id",)), ONE_EACH, array([0.75, 0.25], [0.5, 0.75]),
         ["id,0,1,2", "x,0.25,0.5,0.25", "y,0.5,0,0.5"]),
        (competition(TAGS, answer="probabilities", columns=("id",)), ONE_EACH, array([0.5, 1], [0, 0.25]),
         ["id,a,b", "x,0.5,1", "y,0,0.25"]),
        (competition(replace(ABC, classes=("no", "yes")), answer="probabilities"), ONE_EACH,
         array([0.75, 0.25], [0, 1]), ["id,label", "x,0.25", "y,1"]),
        (competition(*TWO, answer="heads", columns=("id",)), ONE_EACH, BOTH, ["id,label,other", "x,b,x", "y,a,y"]),
        (competition(*TWO, answer="heads", columns=("id", "first", "second")), ONE_EACH, BOTH,
         ["id,first,second", "x,b,x", "y,a,y"]),
        (competition(*TWO, answer="rows", columns=("row_id", "target")), ROWS, BOTH,
         ["row_id,target", "1_other,x", "1_label,b", "2_label,a"]),
    ],
)  # fmt: skip
def test_a_submission_holds_what_is_asked_for(
    tmp_path: Path, one: Competition, test: TestSet, predicted: np.ndarray, expected: list[str]
) -> None:
    assert written(tmp_path, predicted, test, one) == expected


def test_a_rule_decides_answers_and_lists(tmp_path: Path) -> None:
    labels, low = competition(TAGS), array([0.3, 0.1], [0.1, 0.2])
    assert written(tmp_path, low, ONE_EACH, labels, Rule(cuts=((0.2, 0.15),)))[1:] == ["x,a", "y,b"]
    whales = competition(ABC, num_answers=2, none_class="c")
    assert written(tmp_path, SHARES, ONE_EACH, whales, Rule(cuts=((0.4,),)))[1:] == ["x,b c", "y,a c"]


def test_several_images_with_a_row_for_each_head(tmp_path: Path) -> None:
    test = asked(*((f"{image}.png", f"1_{head}", head) for head in ("label", "other") for image in (1, 2)))
    one = competition(*TWO, answer="rows", columns=("row_id", "target"))
    assert written(tmp_path, BOTH, test, one) == ["row_id,target", "1_label,a", "1_other,x"]


IS_NONE = r"not one that {} can have"


@pytest.mark.parametrize(
    ("one", "lines", "message"),
    [
        (competition(ABC), ["id,answer", "x,a", "y,b"], "line 1: the header is id,answer, expected id,label"),
        (competition(ABC), ["id,label", "x,a"], "1 answers, the sample submission has 2"),
        (competition(ABC), ["id,label", "y,a", "x,b"], "line 2: id 'y' where the sample submission has 'x'"),
        (competition(ABC), ["id,label", "x,a", "y,"], "line 3: the answer is empty"),
        (competition(ABC), ["id,label", "x,a", "y,d"], "line 3: answer 'd' is not made of food11's classes"),
        (competition(replace(TAGS, required=True)), ["id,label", "x,a", "y,"], "line 3: answer '' is " + IS_NONE),
        (competition(TAGS), ["id,label", "x,a a", "y,"], "line 2: answer 'a a' is " + IS_NONE),
        (competition(TAGS), ["id,label", "x,a  b", "y,"], "line 2: answer 'a  b' is " + IS_NONE),
        (competition(ABC, num_answers=2), ["id,label", "x,a b", "y,c"], "line 3: answer 'c' is " + IS_NONE),
        (competition(ABC, num_answers=2), ["id,label", "x,a b", "y,c c"], "line 3: answer 'c c' is " + IS_NONE),
        (competition(AGE), ["id,label", "x,1.5", "y,nan"], "line 3: answer 'nan' is " + IS_NONE),
        (competition(AGE), ["id,label", "x,1.5", "y,old"], "line 3: answer 'old' is " + IS_NONE),
        (competition(GRADE), ["id,label", "x,2", "y,3"], "line 3: answer '3' is " + IS_NONE),
        (competition(GRADE), ["id,label", "x,2", "y,1.0"], "line 3: answer '1.0' is " + IS_NONE),
        (competition(ABC, answer="probabilities", columns=("id",)), ["id,a,b,c", "x,0.2,0.5,0.3", "y,0.6,0.3,0.2"],
         "line 3: the probabilities sum to 1.1, not 1"),
        (competition(TAGS, answer="probabilities", columns=("id",)), ["id,a,b", "x,0.5,1", "y,0,1.25"],
         "line 3: b is '1.25', not a probability of 0 to 1"),
        (competition(TAGS, answer="probabilities", columns=("id",)), ["id,a,b", "x,0.5,1", "y,,1"],
         "line 3: a is '', not a probability of 0 to 1"),
        (competition(*TWO, answer="heads", columns=("id",)), ["id,label,other", "x,b,x", "y,a,a"],
         "line 3: answer 'a' is not one that other can have"),
    ],
)  # fmt: skip
def test_a_submission_that_would_be_refused_is_not_written(
    tmp_path: Path, one: Competition, lines: list[str], message: str
) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("\n".join([*lines, ""]))
    with pytest.raises(InputError) as error:
        validate(path, ONE_EACH, one)
    beginning = f"{path}: " if message[0].isdigit() else f"{path}, "
    assert str(error.value) == beginning + message.format(one.heads[0].name)


def test_a_row_of_another_heads_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("row_id,target\n1_other,x\n1_label,y\n2_label,a\n")
    with pytest.raises(InputError, match="line 3: answer 'y' is not one that label can have"):
        validate(path, ROWS, competition(*TWO, answer="rows", columns=("row_id", "target")))
