"""Tables with folders: classes, groups and several images of one answer."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions.folders import folder_competition
from src.core.errors import InputError
from src.core.reading import InputFiles
from tests.competitions.conftest import images, leaves, read, write


def test_a_table_is_joined_from_two(folder: Path) -> None:
    write(folder / "train.csv", "id,label", "1,a", "2,b", "3,a", "4,b")
    write(folder / "sites.csv", "id,site", "2,north", "1,south")

    def joined(files: InputFiles) -> pd.DataFrame:
        return files.table("train.csv").merge(files.table("sites.csv"), on="id", how="left")

    _, labels, _ = read(leaves(read_table=joined, group_column="site"), folder)
    assert labels["group"].tolist() == ["south", "north", "line 3", "line 4"]
    numbers = leaves(read_table=lambda files: files.table("train.csv").assign(label=np.arange(4)))
    assert read(numbers, folder)[0].heads[0].classes == ("0", "1", "2", "3")
    with pytest.raises(InputError, match=r"^leaves: the table of read_table, line 3: no value in column 'site'"):
        read(leaves(read_table=joined, label_column="site"), folder)
    with pytest.raises(InputError, match=r"^leaves: read_table: KeyError: .*'name'"):
        read(leaves(read_table=lambda files: files.table("train.csv").set_index("name")), folder)


def test_a_test_csv_lists_several_images_of_an_id(folder: Path) -> None:
    images(folder / "test", "8b", "7")
    write(folder / "train.csv", "id,label", "1,a", "2,b")
    write(folder / "test.csv", "id,file", "8,8", "7,7", "8,8b", "9,9")
    competition = leaves(test_csv="test.csv", test_image_column="file")
    _, _, test = read(competition, folder)
    assert test.to_numpy().tolist() == [["test/9.png", "9"], ["test/8.png", "8"], ["test/8b.png", "8"]]
    write(folder / "test.csv", "id,file", "8,8")
    with pytest.raises(InputError, match=r"^test.csv: no image of id '9', which the sample submission asks for$"):
        read(competition, folder)
    write(folder / "test.csv", "id,image", "8,8")
    with pytest.raises(InputError, match=r"^test.csv, line 1: no column 'file'; it has id, image$"):
        read(competition, folder)
    images(folder / "test" / "more", "9")
    write(folder / "test" / "9.jpg")
    write(folder / "test.csv", "id,file", "8,8", "9,9")
    with pytest.raises(InputError, match=r"^test.csv, line 3: test/ has several images called '9'; add the extension$"):
        read(competition, folder)


def test_a_row_for_each_head_may_have_several_images(folder: Path) -> None:
    images(folder / "test", "8b")
    write(folder / "train.csv", "id,root,vowel", "1,a,x", "2,b,y")
    write(folder / "sample_submission.csv", "row_id,target", "8_root,a", "8_vowel,x")
    write(folder / "test.csv", "id,file", "8,8", "8,8b")
    options: dict[str, Any] = {"label_column": ("root", "vowel"), "answer": "rows"}
    _, _, test = read(leaves(test_csv="test.csv", test_image_column="file", **options), folder)
    paths, heads = ["test/8.png", "test/8b.png"] * 2, ["root", "root", "vowel", "vowel"]
    assert test.to_numpy().tolist() == [[path, f"8_{head}", head] for path, head in zip(paths, heads, strict=True)]
    write(folder / "sample_submission.csv", "row_id,target", "8_root,a", "8_tone,x")
    with pytest.raises(InputError, match=r"^sample_submission.csv, line 3: id '8_tone' ends with none of root, vowel$"):
        read(leaves(**options), folder)


def test_an_image_in_no_class_folder_and_folders_that_are_no_columns_are_told(folder: Path) -> None:
    competition = folder_competition(name="pets")
    with pytest.raises(InputError, match=r"^train/1.png: lies in no class's folder; move it to train/CLASS/$"):
        read(competition, folder)
    for path in (folder / "train").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no images in a folder or zip called 'train'"):
        read(competition, folder)
    images(folder / "train" / "cat", "1", "2")
    with pytest.raises(InputError, match=r"^pets: label has fewer than two classes; correct"):
        read(competition, folder)
    images(folder / "train" / "dog" / "more", "3")
    found, labels, _ = read(competition, folder)
    assert (found.heads[0].classes, labels["label"].tolist()) == (("cat", "dog"), [0, 0, 1])
    write(folder / "sample_submission.csv", "id,cat,dogs", "9,0,0")
    with pytest.raises(InputError, match=r"^train/dog: is not one of sample_submission.csv's columns; did you mean do"):
        read(folder_competition(name="pets", answer="probabilities"), folder)


def test_class_folders_named_as_macos_does_are_those_of_the_sample_submission(folder: Path) -> None:
    for path in (folder / "train").iterdir():
        path.unlink()
    images(folder / "train" / unicodedata.normalize("NFD", "café"), "1")
    images(folder / "train" / "dog", "2")
    write(folder / "sample_submission.csv", "id,café,dog", "9,0,0")
    found, labels, _ = read(folder_competition(name="pets", answer="probabilities"), folder)
    assert found.heads[0].classes == ("café", "dog")
    assert sorted(labels["label"]) == [0, 1]


def test_groups_of_folders_come_from_a_table(folder: Path) -> None:
    for number, name in enumerate("1234"):
        images(folder / "train" / ("cat" if number % 2 else "dog"), name)
        (folder / "train" / f"{name}.png").unlink()
    write(folder / "drivers.csv", "img,driver", "1.png,x", "2.png,x", "3.png,y")

    def table(files: InputFiles) -> pd.DataFrame:
        return files.table("drivers.csv")

    _, labels, _ = read(
        folder_competition(name="pets", read_table=table, image_column="img", group_column="driver"), folder
    )
    assert labels["group"].value_counts().to_dict() == {"x": 2, "y": 1, "line 1": 1}
    others = {
        ("1,x",): "^pets: no image has a group: read_table's img has names such as 1, the images are called [1-4].png$",
        ("1.png,x", "1.png,y"): "^pets: read_table gives 1.png two groups; ",
    }
    for rows, message in others.items():
        write(folder / "drivers.csv", "img,driver", *rows)
        with pytest.raises(InputError, match=message):
            read(folder_competition(name="pets", read_table=table, image_column="img", group_column="driver"), folder)
    write(folder / "drivers.csv", "img,driver", "1.png,x")
    for options, message in (
        ({"read_table": table, "image_column": "image"}, "read_table gives no column 'image'; it has img, driver"),
        ({}, "group_column 'driver' is a column of read_table's table; give both"),
    ):
        with pytest.raises(InputError, match=f"^pets: {message}$"):
            read(folder_competition(name="pets", group_column="driver", **options), folder)  # type: ignore[arg-type]
