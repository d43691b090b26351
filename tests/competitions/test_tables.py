"""Competitions made of a CSV, of folders and of texts: what is read, and every mistake in one clear line."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from src.competitions.checking import check_sample
from src.competitions.folders import folder_competition
from src.competitions.metric import Metric
from src.competitions.spec import Competition, Head
from src.competitions.strings import string_competition
from src.competitions.tables import _test_rows
from src.core.errors import InputError
from src.metrics import metric_of
from tests.competitions.conftest import images, leaves, read, write
from tests.fixtures import Podium


def test_split_weights_and_groups_are_columns(folder: Path) -> None:
    write(
        folder / "train.csv", "id,label,part,weight,site", "1,b,train,1,x", "2,a, VAL,0.5,x", "3,a,,2,", "4,b,test,0,y"
    )
    found, labels, _ = read(leaves(split_column="part", weight_column="weight", group_column="site"), folder)
    assert found.heads[0].classes == ("a", "b")
    assert labels["label"].tolist() == [1, 0, 0, 1]
    assert labels["split"].tolist() == ["train", "val", "train", "train"]
    assert labels["weight"].tolist() == [1, 0.5, 2, 0]
    assert labels["group"].tolist() == ["x", "x", "line 4", "y"]


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["id,label,weight", "1,a,1", "2,b,-1"], {"weight_column": "weight"},
         "train.csv, line 3: weight '-1' is not a number of 0 or more; correct it"),
        (["id,label,weight", "1,a,1", "2,b,much"], {"weight_column": "weight"},
         "train.csv, line 3: weight 'much' is not a number of 0 or more; correct it"),
        (["id,label,weight", "1,a,0", "2,b,0"], {"weight_column": "weight"}, "leaves: all weights are 0; correct them"),
        (["id,label", "1,a", "2,b"], {"weight_column": "weight"},
         "train.csv, line 1: no column 'weight'; it has id, label"),
        (["id,label", "1,a", ",b"], {}, "train.csv, line 3: no value in column 'id'; fill or remove the row"),
        (["id,label", "1,a", "2, "], {}, "train.csv, line 3: no value in column 'label'; fill or remove the row"),
        (["id,label", "1,a", "2,oak", "3,oak"], {"classes": ("a", "oaks")},
         "train.csv, line 3: label 'oak' is not one of the competition's classes; did you mean oaks?"),
        (["id,label", "1,a b", "2,b oak"], {"classes": ("a", "b"), "kind": "labels", "metric": "macro_f1"},
         "train.csv, line 3: label 'oak' is not one of the competition's classes; there are a, b"),
        (["id,x,y", "1,0,1", "2,1,2"], {"label_column": ("x", "y"), "kind": "labels"},
         "train.csv, line 3: y is '2', neither 0 nor 1; correct it"),
        (["id,label", "1,1.5", "2,tall"], {"kind": "number", "metric": "rmse"},
         "train.csv, line 3: label 'tall' is not a number; correct it"),
        (["id,label", "1,1.5", "2,inf"], {"kind": "number", "metric": "rmse"},
         "train.csv, line 3: label 'inf' is not a number; correct it"),
        (["id,label", "1,mild", "2,severe"], {"kind": "ordinal"},
         "train.csv: grades are texts (mild, severe); give classes=(lowest, ..., highest)"),
        (["id,label", "1,a", "2,a"], {}, "leaves: label has fewer than two classes; correct the labels or the classes"),
        (["id,x,weight", "1,a,b", "2,b,a"], {"label_column": ("x", "weight"), "answer": "heads"},
         "leaves: a head cannot be called 'weight'; choose another name"),
        (["id,label", "1,a", "1,b"], {}, "leaves: image 'train/1.png' is labelled twice: train.csv, line 2 and "
         "train.csv, line 3; remove one of the rows"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_table_is_one_line(
    folder: Path, lines: list[str], options: dict[str, Any], message: str
) -> None:
    write(folder / "train.csv", *lines)
    with pytest.raises(InputError) as error:
        read(leaves(**options), folder)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": ("label", "other")}, "leaves: the submission's columns are id, label, other, but answer="
         "'text' is one column beside the id; give columns=(id, answer), or answer='heads' or 'probabilities'"),
        ({"answer": "heads", "columns": ("id", "a", "b")},
         "leaves: the submission's columns are id, a, b, 2 beside the id for 1 heads"),
        ({"answer": "probabilities", "columns": ("id", "label")},
         "leaves: the submission's columns are id, label, 1 beside the id for 3 probabilities"),
        ({"answer": "probabilities", "kind": "number", "label_column": "size", "columns": ("id", "label")},
         "leaves: a number has no probabilities; leave answer='probabilities' out"),
        ({"num_answers": 2, "kind": "labels"},
         "leaves: num_answers=2 is for one class an image, handed in as text"),
        ({"num_answers": 2, "separator": "r"}, "leaves: class 'red oak' holds the separator 'r' of a list of answers; "
         "give another separator"),
        ({"kind": "labels", "separator": "|", "columns": ("id", "label"), "label_column": ("0|1", "size")},
         "leaves: class '0|1' holds the separator '|' of a list of answers; give another separator"),
        ({"none_class": "nothing"}, "leaves: none_class 'nothing' is not a class; there are a, b, red oak"),
        ({"answer": "probs"}, "leaves: answer 'probs' is not known; there are text, probabilities, heads, rows"),
        ({"combine": "maximum"}, "leaves: combine 'maximum' is not known; there are mean, max"),
        ({"resize": "crop"}, "leaves: resize 'crop' is not known; there are stretch, letterbox, center-crop"),
        ({"test_csv": "test.csv"}, "leaves: test_csv and test_image_column belong together; give both or none"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_handed_in_are_told_by_prepare(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    write(folder / "train.csv", "id,label,other,0|1,size", "1,a,x,0,1", "2,b,y,1,0", "3,red oak,x,0,1")
    with pytest.raises(InputError) as error:
        read(leaves(**options), folder)
    assert str(error.value) == message


def test_tags_may_have_stray_spaces(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1, a; b ", "2,b", "3,;", "4,a;;c d")
    found, labels, _ = read(leaves(kind="labels", separator=";", metric="macro_f1"), folder)
    assert found.heads[0].classes == ("a", "b", "c d")
    assert not found.heads[0].required
    assert labels[found.targets].to_numpy().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
    write(folder / "train.csv", "id,label", "1,a  b", "2, b", "3,a ", "4,b a")
    found, labels, _ = read(leaves(kind="labels", metric="macro_f1"), folder)
    assert found.heads[0].required
    assert labels[found.targets].to_numpy().tolist() == [[1, 1], [0, 1], [1, 0], [1, 1]]


def test_the_sample_submissions_columns_order_the_classes_or_are_refused(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b", "3,c", "4,a")
    write(folder / "sample_submission.csv", "id,c,b,a", "9,0,0,1")
    competition = leaves(answer="probabilities", metric="log_loss")
    found, labels, test = read(competition, folder)
    assert found.submission_columns == ("id", "c", "b", "a")
    assert labels["label"].tolist() == [2, 1, 0, 2]
    assert test["image_path"].tolist() == ["test/9.png"]
    write(folder / "sample_submission.csv", "id,c,b,d", "9,0,0,1")
    with pytest.raises(InputError, match=r"^train.csv, line 2: label 'a' is not one of sample_submission.csv's col"):
        read(competition, folder)
    sample = pd.DataFrame({"id": ["9"], "target": ["0"]}, index=[2])
    with pytest.raises(InputError, match=r"one of the two, give columns=\('id', 'target'\)$"):
        check_sample(sample, ("id", "a", "b"), "sample_submission.csv")
    write(folder / "sample_submission.csv", "id,label,more", "9,0,0")
    with pytest.raises(InputError, match=r"^sample_submission.csv, line 1: the header is id,label,more, expected id,l"):
        read(leaves(), folder)


@pytest.mark.parametrize(
    ("text", "length", "message"),
    [
        ("AB1", (2, 4), "train.csv, line 3: 'AB1' holds '1', which is not in the alphabet; correct it"),
        ("A", (2, 4), "train.csv, line 3: 'A' has 1 characters, expected 2 to 4; correct it"),
        ("ABABA", 4, "train.csv, line 3: 'ABABA' has 5 characters, expected 4; correct it"),
    ],
)
def test_a_text_that_the_alphabet_does_not_spell_is_told(folder: Path, text: str, length: Any, message: str) -> None:
    write(folder / "train.csv", "id,label", "1,ABBA", f"2,{text}")
    with pytest.raises(InputError) as error:
        read(string_competition(name="plates", alphabet="AB", length=length, train_csv="train.csv"), folder)
    assert str(error.value) == message


def test_a_file_name_is_a_text(folder: Path) -> None:
    competition = string_competition(name="plates", alphabet="1234", length=1, columns=("id", "label"))
    assert read(competition, folder)[1]["character1"].tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"^train/4.png: '4' holds '4', which is not in the alphabet; correct it$"):
        read(string_competition(name="plates", alphabet="123", length=1), folder)
    for wrong in ({"alphabet": "112", "length": 1}, {"alphabet": "12", "length": (0, 3)}):
        with pytest.raises(InputError, match=r"^plates: give length=N or \(shortest, longest\), from 1"):
            string_competition(name="plates", **wrong)


@pytest.mark.parametrize(
    ("options", "lines", "message"),
    [
        ('label_column="label", weight_column="w"', ("id,label,w", "1,a,1", "2,b,-2"),
         "error: train.csv, line 3: weight '-2' is not a number of 0 or more; correct it\n"),
        ('label_column=("x", "y"), kind="labels", answer="heads", metric="macro_f1"', ("id,x,y", "1,0,1", "2,1,1"),
         "error: leaves: the submission's columns are id, x, y, 2 beside the id for 1 heads\n"),
        ('label_column="label", kind="number"', ("id,label", "1,1.5", "2,2"),
         "error: leaves: accuracy is a metric of class and labels and ordinal, but label is of kind 'number'; choose "
         "another metric or kind\n"),
        ('label_column="label", read_table=lambda files: files.table("train.csv")["id"].missing',
         ("id,label", "1,a", "2,b"),
         "error: leaves: read_table: AttributeError: 'Series' object has no attribute 'missing'\n"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    podium: Podium, tmp_path: Path, options: str, lines: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "input" / "leaves"
    images(folder / "train", "1", "2")
    images(folder / "test", "9")
    write(folder / "train.csv", *lines)
    write(folder / "sample_submission.csv", "id,label", "9,a")
    write(
        tmp_path / "leaves.py",
        "from src.competitions.tables import csv_competition",
        f'COMPETITION = csv_competition(name="leaves", id_column="id", {options})',
    )
    ended = podium("prepare", "--competition", "leaves.py")
    assert (ended.code, ended.err) == (2, message)


def test_a_metric_of_ones_own_is_taken_as_it_is(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b")
    own = Metric(name="mine", per_image=lambda target, answers, competition: (answers == target)[:, 0].astype(float))
    assert metric_of(read(leaves(metric=own), folder)[0]) is own


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 224, "give a tuple, such as (64, 128)"),
        ("image_size", ("24", "32"), "give (height, width) in pixels, such as (64, 128)"),
        ("metric", max, "give a name, or Metric(name=..., ...)"),
        ("head_weights", (0,), "give a number for each head, one of them above 0"),
        ("head_weights", 1.0, "give a tuple, such as (2.0, 1.0)"),
        ("hflip_ok", "no", "give True or False"),
        ("separator", None, "give a text, in quotes"),
        ("channels", "grey", "give 3, or 1 for grey images, or bands"),
        ("channels", 2, "give 3, or 1 for grey images, or bands"),
        ("num_answers", "2", "give a whole number of 1 or more"),
        ("image_name", "{id}.png", "give a text with {} in it, such as '{}.png'"),
    ],
)
def test_a_field_of_another_type_is_one_line(folder: Path, field: str, value: object, message: str) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b")
    with pytest.raises(InputError) as error:
        read(leaves(**{field: value}), folder)
    assert str(error.value) == f"leaves: {field} is {value!r}; {message}"


def test_a_mistyped_keyword_is_told_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="^leaves: unknown keyword 'group_colum'; did you mean group_column"):
        leaves(group_colum="patient")
    with pytest.raises(InputError, match="^leaves: unknown keyword 'hflip'; did you mean hflip_ok"):
        folder_competition(name="leaves", hflip=True)


def test_lists_do_where_tuples_are_meant(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b")
    found = read(leaves(classes=["a", "b"], image_size=[24, 32]), folder)[0]
    assert (found.heads[0].classes, found.image_size) == (("a", "b"), (24, 32))


def test_a_head_whose_name_ends_anothers_has_its_own_rows() -> None:
    heads = tuple(Head(name=name, classes=("a", "b")) for name in ("skin_tone", "tone"))
    competition = cast(Competition, SimpleNamespace(answer="rows", heads=heads))
    rows = _test_rows(pd.Series(["0_skin_tone", "0_tone"]), competition, "sample.csv")
    assert rows[["image", "head"]].to_numpy().tolist() == [["0", "skin_tone"], ["0", "tone"]]
