"""Which class or head each column of a submission holds: by its name if it has one, and said if that is not plain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.competitions.columns import named_after, order_of
from src.competitions.folders import folder_competition
from src.competitions.spec import Head
from src.core.errors import InputError
from src.data.problems import label_warnings
from src.inference.answers import probabilities_for
from tests.competitions.conftest import images, leaves, read, write
from tests.inference.test_answers import competition


@pytest.mark.parametrize(
    ("columns", "names", "expected"),
    [
        (["class_2", "class_0", "class_1"], ["0", "1", "2"], [2, 0, 1]),
        (["c11_prob", "c1_prob", "c0_prob"], ["0", "1", "11"], [2, 1, 0]),
        (["b", "a"], ["a", "b"], [1, 0]),
        (["class_0", "class_1"], ["0", "2"], None),
        (["class_0", "kind_1"], ["0", "1"], None),
        (["x0", "x1", "x2"], ["0", "1"], None),
        (["a.b", "axb"], ["a.b", "axb"], [0, 1]),
        (["Dog", "Cat"], ["cat", "dog"], [1, 0]),
        (["P_DOG", "P_CAT"], ["Cat", "dog"], [1, 0]),
        (["A", "a"], ["a", "A"], [1, 0]),
    ],
)
def test_columns_are_matched_by_the_names_within_theirs(
    columns: list[str], names: list[str], expected: list[int] | None
) -> None:
    assert named_after(columns, names) == expected


@pytest.mark.parametrize(
    ("column", "classes", "which", "note"),
    [
        ("cancer", ("cancer", "healthy"), 0, "note: column 'cancer' holds the probability of 'cancer'"),
        ("P_Cancer", ("cancer", "healthy"), 0, "note: column 'P_Cancer' holds the probability of 'cancer'"),
        ("healthy", ("cancer", "healthy"), 1, "note: column 'healthy' holds the probability of 'healthy'"),
        ("diagnosis", ("no", "yes"), 1,
         "note: column 'diagnosis' holds the probability of 'yes'; for that of 'no' give classes=('yes', 'no')"),
        ("label", ("Yes", "no"), 1,
         "note: column 'label' holds the probability of 'no'; for that of 'Yes' give classes=('no', 'Yes')"),
        ("no_tumor", ("no_tumor", "tumor"), 0, ""),
        ("p_no_tumor", ("no_tumor", "tumor"), 0, "note: column 'p_no_tumor' holds the probability of 'no_tumor'"),
        ("p_tumor", ("no_tumor", "tumor"), 1, "note: column 'p_tumor' holds the probability of 'tumor'"),
        ("class_-1", ("-1", "1"), 0, "note: column 'class_-1' holds the probability of '-1'"),
        ("cancer_or_healthy", ("cancer", "healthy"), 1,
         "note: column 'cancer_or_healthy' holds the probability of 'healthy'; for that of 'cancer' give "
         "classes=('healthy', 'cancer')"),
    ],
)  # fmt: skip
def test_one_column_of_two_classes_is_of_the_class_that_it_names(
    column: str, classes: tuple[str, str], which: int, note: str
) -> None:
    of = competition(Head(name="label", classes=classes), answer="probabilities", columns=("id", column))
    shares = np.array([[0.25, 0.75]], np.float32)
    assert probabilities_for(shares, of).tolist() == [[shares[0, which]]]
    assert of.columns_note == (note if column != classes[which] else "")


def test_columns_that_hold_the_names_of_classes_are_filled_by_name(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,0", "2,1", "3,2", "4,0")
    write(folder / "sample_submission.csv", "id,class_2,class_0,class_1", "9,0,0,1")
    settings: dict[str, Any] = {"answer": "probabilities", "metric": "log_loss"}
    advice = r"they are named after the labels: give columns=\(ID, 'class_2', 'class_0', 'class_1'\)$"
    with pytest.raises(InputError, match=advice):
        read(leaves(**settings), folder)
    found, labels, _ = read(leaves(**settings, columns=("id", "class_2", "class_0", "class_1")), folder)
    assert labels["label"].tolist() == [0, 1, 2, 0]
    assert probabilities_for(np.array([[0.1, 0.2, 0.7]]), found).tolist() == [[0.7, 0.1, 0.2]]
    note = "note: the columns hold the probability of class_2: '2', class_0: '0', class_1: '1'"
    assert label_warnings(labels, found) == [note]
    other = read(leaves(**settings, columns=("id", "a", "b", "c"), sample_submission="other.csv"), folder_with(folder))
    assert other[0].columns_note == "note: the columns hold the probability of a: '0', b: '1', c: '2'"


def folder_with(folder: Path) -> Path:
    write(folder / "other.csv", "id,a,b,c", "9,0,0,1")
    return folder


def test_class_folders_may_have_one_column_of_probabilities(folder: Path) -> None:
    for path in (folder / "train").iterdir():
        path.unlink()
    for name in ("cat", "dog"):
        images(folder / "train" / name, "1", "2")
    settings: dict[str, Any] = {"name": "pets", "answer": "probabilities", "columns": ("id", "label")}
    for classes in (("cat", "dog"), ("dog", "cat")):
        found, _, _ = read(folder_competition(**settings, classes=classes), folder)
        assert found.heads[0].classes == classes
        assert order_of(found.submission_columns[1:], found.answer_names) == [1]
    assert read(folder_competition(**settings), folder)[0].heads[0].classes == ("cat", "dog")
    with pytest.raises(InputError, match="train/dog: is not one of the competition's classes; did you mean dogs?"):
        read(folder_competition(**settings, classes=("cat", "dogs")), folder)


def test_a_class_that_only_the_sample_submission_names_stays_one_if_its_columns_are_given(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,cat", "2,dog")
    write(folder / "sample_submission.csv", "id,fish,cat,dog", "9,0,0,1")
    settings: dict[str, Any] = {"answer": "probabilities", "metric": "log_loss"}
    for columns in ({}, {"columns": ("id", "fish", "cat", "dog")}):
        found, _, _ = read(leaves(**settings, **columns), folder)
        assert found.heads[0].classes == ("fish", "cat", "dog")


def test_a_sample_submission_whose_id_is_not_first_gets_no_advice_that_cannot_work(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b")
    write(folder / "sample_submission.csv", "label,id", "a,9")
    with pytest.raises(InputError, match=r"expected id,label; the id must come first$"):
        read(leaves(), folder)


@pytest.mark.parametrize("texts", [("True", "False"), ("1", "0")])
def test_labels_that_pandas_wrote_as_true_and_false_are_read(folder: Path, texts: tuple[str, str]) -> None:
    yes, no = texts
    write(folder / "train.csv", "id,x,y", f"1,{yes},{no}", f"2,{no},{yes}")
    write(folder / "sample_submission.csv", "id,label", "9,x")
    found, labels, _ = read(
        leaves(label_column=("x", "y"), kind="labels", metric="macro_f1", columns=("id", "label")), folder
    )
    assert labels[found.targets].to_numpy().tolist() == [[1, 0], [0, 1]]


def test_one_grade_in_two_spellings_is_refused(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,1", "2,1.0", "3,2")
    with pytest.raises(InputError, match=r"train.csv: grade '1' is written in several ways"):
        read(leaves(kind="ordinal", metric="quadratic_kappa"), folder)


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(folder: Path, mark: str, name: str) -> None:
    write(folder / "train.csv", *(mark.join(cells) for cells in (("id", "label"), ("1", "a"), ("2", "b"))))
    with pytest.raises(InputError, match=f"its cells are separated by {name}, save it with commas"):
        read(leaves(), folder)


def test_a_byte_that_is_not_utf8_is_found_after_a_byte_order_mark(folder: Path) -> None:
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbfid,label\n0,a\n1,b\n\xe4,a\n")
    with pytest.raises(InputError, match="train.csv, line 4: byte 0xe4 is not UTF-8"):
        read(leaves(), folder)
