"""What is matched by name, not by the order in which it stands; and what a competition's own readers may get wrong."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions.decision import Rule
from src.competitions.folders import folder_competition
from src.competitions.spec import Head
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.labels import check_labels, check_test, read_test
from src.inference.answers import answers_table, validate
from src.metrics import check_handed_in, score_of
from tests.competitions.conftest import images, leaves, read, write
from tests.inference.test_answers import ABC, AGE, BOTH, ONE_EACH, SHARES, TWO, competition


@pytest.mark.parametrize(
    ("one", "predicted", "lines"),
    [
        (competition(*TWO, answer="heads", columns=("id", "other", "label")), BOTH,
         ["id,other,label", "x,x,b", "y,y,a"]),
        (competition(ABC, answer="probabilities", columns=("id", "c", "a", "b")), SHARES,
         ["id,c,a,b", "x,0.3,0.2,0.5", "y,0.1,0.6,0.3"]),
    ],
)  # fmt: skip
def test_answer_columns_are_filled_by_name(tmp_path: Path, one: Any, predicted: np.ndarray, lines: list[str]) -> None:
    path = tmp_path / "submission.csv"
    answers_table(predicted, ONE_EACH, one, Rule()).to_csv(path, index=False)
    validate(path, ONE_EACH, one)
    assert path.read_text().splitlines() == lines


def test_a_column_with_the_name_of_another_head_is_refused(folder: Path) -> None:
    write(folder / "train.csv", "id,age,sex", "1,1,0", "2,0,1")
    write(folder / "sample_submission.csv", "id,sex,age", "8,0,0")
    two = {"label_column": ("age", "sex"), "answer": "heads"}
    with pytest.raises(InputError, match=r"expected id,age,sex; give columns=\('id', 'sex', 'age'\)$"):
        read(leaves(**two), folder)
    read(leaves(**two, columns=("id", "sex", "age")), folder)
    write(folder / "sample_submission.csv", "id,sex,years", "8,0,0")
    with pytest.raises(InputError, match="'sex' is where 'age' would be written"):
        read(leaves(**two, columns=("id", "sex", "years")), folder)


def test_grades_have_an_order_of_their_own(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,mild", "2,none", "3,severe")
    write(folder / "sample_submission.csv", "id,mild,none,severe", "8,0,0,1")
    grades: dict[str, Any] = {"kind": "ordinal", "answer": "probabilities"}
    with pytest.raises(InputError, match=r"grades are texts .* give classes=\(lowest, ..., highest\)"):
        read(leaves(**grades), folder)
    in_order = ("none", "mild", "severe")
    found, labels, _ = read(leaves(**grades, classes=in_order, columns=("id", "mild", "none", "severe")), folder)
    assert found.heads[0].classes == in_order
    assert labels["label"].tolist() == [1, 0, 2]
    write(folder / "train.csv", "id,label", "1,10", "2,2", "3,2")
    write(folder / "sample_submission.csv", "id,10,2", "8,0,1")
    assert read(leaves(**grades, columns=("id", "10", "2")), folder)[0].heads[0].classes == ("2", "10")


@pytest.mark.parametrize(("name", "error"), [("mae", (47.5, 0.5)), ("rmse", (95 / np.sqrt(2), 1 / np.sqrt(2)))])
def test_errors_of_grades_that_are_numbers_are_those_of_the_numbers(name: str, error: tuple[float, float]) -> None:
    target, predicted = np.array([[0], [2]]), np.array([[0.1, 0.1], [0.9, 0.1]], np.float32)  # answered: 0 and 5
    for classes, expected in ((("0", "5", "100"), error[0]), (("low", "mid", "high"), error[1])):
        one = competition(Head(name="grade", classes=classes, kind="ordinal"), metric=name)
        assert score_of(predicted, target, one) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "give"),
    [
        ({"metric": "roc_auc"}, "answer='probabilities'"),
        ({"metric": "log_loss"}, "answer='probabilities'"),
        ({"metric": "map@5"}, "num_answers=5"),
        ({"metric": "map@5", "num_answers": 3}, "num_answers=5"),
        ({"metric": "map@5", "num_answers": 5}, ""),
        ({"metric": "top@1"}, ""),
        ({"metric": "roc_auc", "answer": "probabilities", "columns": ("id",)}, ""),
        ({"metric": "roc_auc", "pretext": True}, ""),
    ],
)
def test_a_metric_of_what_is_not_handed_in_is_refused(fields: dict[str, Any], give: str) -> None:
    one = competition(ABC, **fields)
    if not give:
        check_handed_in(one)
        return
    with pytest.raises(InputError, match=f"is of probabilities, .* give {give}"):
        check_handed_in(one)


def test_numbers_keep_the_digits_of_float32() -> None:
    one = competition(AGE, metric="rmse")
    assert [one.decode([np.float32(value)]) for value in (20240115, 52.520008, 41.25)] == [
        "20240116",
        "52.5200081",
        "41.25",
    ]


@pytest.mark.parametrize(("column", "held_out"), [("is_train", ["0"]), ("is_val", ["1"]), ("part", ["1"])])
def test_true_means_what_the_column_of_the_split_says(folder: Path, column: str, held_out: list[str]) -> None:
    write(folder / "train.csv", f"id,label,{column}", "1,a,1", "2,b,0", "3,a,0", "4,b,1")
    labels = read(leaves(split_column=column), folder)[1]
    expected = ["val" if value in held_out else "train" for value in "1001"]
    assert labels["split"].tolist() == expected


def test_an_image_without_a_group_is_a_group_of_its_own() -> None:
    table = pd.DataFrame({"image_path": list("abcd"), "label": 0, "group": ["x", None, "x", float("nan")]})
    assert check_labels(table, competition(ABC))["group"].nunique() == 3
    with pytest.raises(InputError, match="read_train gives no answer for 'b'; fill it in"):
        check_labels(table.rename(columns={"group": "answer"}), competition(ABC))


def test_what_own_readers_forget_is_one_line(folder: Path) -> None:
    one = competition(ABC)
    for check, what in ((check_labels, "read_train"), (check_test, "read_test")):
        with pytest.raises(
            InputError, match=f"^food11: {what} gives a NoneType, not a DataFrame; is its return missing"
        ):
            check(None, one)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="^food11: read_test gives id 1, which is not text"):
        check_test(pd.DataFrame({"image_path": ["1.png"], "id": [1]}), one)

    def broken(files: InputFiles) -> pd.DataFrame:
        return files.table("sample_submission.csv")[["name"]]

    with pytest.raises(InputError, match=r"^food11: read_test: KeyError: .*name"):
        read_test(replace(one, read_test=broken), InputFiles(folder))


def unpacked(root: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as members:
        members.extractall(root)


def half_unpacked(root: Path, archive: Path) -> None:
    unpacked(root, archive)
    shutil.rmtree(root / "train" / "dog")


def packed(root: Path, archive: Path) -> None:
    pass


@pytest.mark.parametrize("arrange", [packed, unpacked, half_unpacked])
def test_a_zip_of_class_folders_may_lie_beside_what_was_unpacked_of_it(
    tmp_path: Path, arrange: Callable[[Path, Path], None]
) -> None:
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as members:
        for name in ("cat", "dog", "train"):  # a class may have the name of the folder
            for number in range(2):
                members.writestr(f"train/{name}/{number}.png", f"{name}{number}")
    arrange(tmp_path, tmp_path / "train.zip")
    write(tmp_path / "sample_submission.csv", "id,label", "8,cat")
    images(tmp_path / "test", "8")
    found, labels, _ = read(folder_competition(name="pets", id_column="id", label_column="label"), tmp_path)
    assert found.heads[0].classes == ("cat", "dog", "train")
    assert labels["label"].tolist() == [0, 0, 1, 1, 2, 2]


def test_files_are_found_by_the_end_of_their_path(folder: Path) -> None:
    write(folder / "csv" / "train.csv", "id,label", "1,a", "2,b")
    write(folder / "old" / "train.csv", "id,label", "1,c", "2,d")
    assert read(leaves(train_csv="csv/train.csv"), folder)[0].heads[0].classes == ("a", "b")
    (folder / "old" / "train.csv").unlink()
    assert InputFiles(folder).has("train.csv")
    assert not InputFiles(folder).has("rain.csv")
    assert len(InputFiles(folder).images("")) == 6
