"""Every mistake in data or flags exits with code 2 and one line naming it, never with a traceback."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import Finished, MakeFood11, MakeLeaves, MakeSvhn, Podium

TINY = ("--fold", 0, "--backbone", "svhn_cnn", "--no-pretrained", "--epochs", 1, "--image-size", 32, 64)


def refused(finished: Finished, *words: str) -> None:
    """Assert exit code 2 and one line on stderr, "error: ...", with all the words in it."""
    code, _, err = finished
    lines = [line for line in err.replace("\r", "\n").splitlines() if line and not line.startswith("decoding ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


# ---- missing data


def test_missing_data_is_refused_with_its_source_and_folder(podium: Podium, leaves: MakeLeaves, tmp_path: Path) -> None:
    refused(podium("prepare"), "input/svhn: no such folder", "tianchi.aliyun.com", "put them into input/svhn/")
    refused(podium("prepare", "--competition", "food11"), "input/food11", "Get food-11.zip")
    refused(podium("prepare", "--competition", "demo"), "input/demo", "python -m src.make_demo")
    for name, source in (
        ("mnist", "the four idx files"),
        ("fashion_mnist", "zalandoresearch"),
        ("cifar10", "kaggle.com"),
    ):
        refused(
            podium("prepare", "--competition", name), f"input/{name}: no such folder", source, f"into input/{name}/"
        )
    leaves()
    (tmp_path / "input").rename(tmp_path / "elsewhere")
    refused(podium("prepare", "--competition", "leaves.py"), "input/leaves", "Get leaves.zip from")


@pytest.mark.parametrize("command", ["train", "predict", "evaluate"])
def test_commands_before_prepare_are_refused_with_the_command_to_run(
    podium: Podium, svhn: MakeSvhn, command: str
) -> None:
    svhn()
    folder = "runs/svhn/prepared" if command == "train" else "runs/svhn/baseline: no such run"
    refused(podium(command), folder, "run python -m src.prepare --competition svhn first")


def test_predict_before_train_is_refused(podium: Podium, svhn: MakeSvhn) -> None:
    svhn()
    podium("prepare")
    refused(podium("predict"), "runs/svhn/baseline: no such run", "train one first")


@pytest.mark.parametrize("name", ["mchar_train.json", "mchar_val.json", "mchar_sample_submit_A.csv"])
def test_a_missing_label_file_is_named(podium: Podium, svhn: MakeSvhn, name: str) -> None:
    (svhn() / name).unlink()
    refused(podium("prepare"), f"{name} is missing", "tianchi.aliyun.com")


@pytest.mark.parametrize("name", ["mchar_train", "mchar_val", "mchar_test_a"])
def test_a_missing_image_folder_is_named(podium: Podium, svhn: MakeSvhn, name: str) -> None:
    folder = svhn()
    (folder / name).rename(folder / "other")
    refused(podium("prepare"), f"no images in a folder or zip called '{name}'", "tianchi.aliyun.com")


# ---- label files


def test_a_truncated_json_is_refused_with_file_and_line(podium: Podium, svhn: MakeSvhn) -> None:
    path = svhn() / "mchar_train.json"
    text = json.dumps(json.loads(path.read_text()), indent=1)
    path.write_text(text[: len(text) // 2])
    refused(podium("prepare"), "mchar_train.json, line ", "is the file cut off?")


def test_an_overlong_number_in_a_json_is_refused(podium: Podium, svhn: MakeSvhn) -> None:
    (svhn() / "mchar_train.json").write_text('{"000000.png": {"label": [%s]}}' % ("9" * 5000))
    refused(podium("prepare"), "mchar_train.json")


def test_a_truncated_csv_is_refused_with_file_and_line(podium: Podium, leaves: MakeLeaves, tmp_path: Path) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text()[:42])
    refused(podium("prepare", "--competition", "leaves.py"), "train.csv, line 4", "cut off")


@pytest.mark.parametrize("label", [10, -1, "7", 1.0, True, None])
def test_an_invalid_digit_is_refused_with_its_image(podium: Podium, svhn: MakeSvhn, label: object) -> None:
    edit_json(svhn() / "mchar_val.json", lambda entries: entries["000002.png"].update(label=[3, label, 4]))
    refused(podium("prepare"), "mchar_val.json, line 1: '000002.png'", f"label {label!r} is not a digit 0-9")


def test_a_class_out_of_range_is_refused_with_its_file(podium: Podium, food11: MakeFood11) -> None:
    folder = food11()
    (folder / "training" / "0_0.jpg").rename(folder / "training" / "11_0.jpg")
    refused(podium("prepare", "--competition", "food11"), "training/11_0.jpg", "class 0-10")


def test_a_csv_row_without_a_label_is_refused_with_its_line(podium: Podium, leaves: MakeLeaves, tmp_path: Path) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text().replace('0002,"oak, red"', "0002, "))
    refused(podium("prepare", "--competition", "leaves.py"), "train.csv, line 4: no value in column 'species'")


def test_a_csv_without_the_label_column_is_refused(podium: Podium, leaves: MakeLeaves, tmp_path: Path) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text().replace("species", "kind"))
    refused(podium("prepare", "--competition", "leaves.py"), "train.csv, line 1: no column 'species'", "image_id, kind")


@pytest.mark.parametrize("labels", [[1] * 7, [], "12", None])
def test_a_label_of_no_or_more_than_six_digits_is_refused_with_its_image(
    podium: Podium, svhn: MakeSvhn, labels: object
) -> None:
    edit_json(svhn() / "mchar_train.json", lambda entries: entries["000002.png"].update(label=labels))
    what = "7 digits, at most 6" if labels == [1] * 7 else "has no list of digits under 'label'"
    refused(podium("prepare"), "mchar_train.json, line 1: '000002.png'", what)


def test_an_image_labelled_twice_is_refused(podium: Podium, svhn: MakeSvhn, leaves: MakeLeaves, tmp_path: Path) -> None:
    path = svhn() / "mchar_train.json"
    path.write_text(path.read_text().replace('"000003.png"', '"000002.png"'))
    refused(podium("prepare"), "mchar_train.json", "'000002.png' appears twice")
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text() + "0002.png,NA\n")
    refused(podium("prepare", "--competition", "leaves.py"), "'train/0002.png' is labelled twice")


# ---- paths that lead out of the folder


@pytest.mark.parametrize("name", ["../mchar_val/000000.png", "/etc/hostname", "a/../../x.png"])
def test_a_path_out_of_the_folder_in_a_json_is_refused(podium: Podium, svhn: MakeSvhn, name: str) -> None:
    edit_json(svhn() / "mchar_train.json", lambda entries: entries.update({name: {"label": [1]}}))
    refused(podium("prepare"), "mchar_train.json", repr(name), "not a plain relative name")


@pytest.mark.parametrize("name", ["../train/0000.png", "/etc/hostname"])
@pytest.mark.parametrize("file", ["train.csv", "sample_submission.csv"])
def test_a_path_out_of_the_folder_in_a_csv_is_refused_with_its_line(
    podium: Podium, leaves: MakeLeaves, tmp_path: Path, file: str, name: str
) -> None:
    leaves(num_train=8, num_test=8)
    path = tmp_path / "input" / "leaves" / file
    path.write_text(path.read_text() + f"{name},NA\n")
    refused(podium("prepare", "--competition", "leaves.py"), f"{file}, line 10: file name {name!r}")


def test_a_symbolic_link_out_of_the_folder_is_refused(podium: Podium, svhn: MakeSvhn, tmp_path: Path) -> None:
    image = svhn() / "mchar_train" / "000002.png"
    image.rename(tmp_path / "outside.png")
    image.symlink_to(tmp_path / "outside.png")
    refused(podium("prepare"), "mchar_train/000002.png: is a symbolic link to", "outside.png")


@pytest.mark.parametrize("member", ["../escape.png", "/tmp/escape.png"])
def test_a_zip_member_outside_the_folder_is_refused(podium: Podium, svhn: MakeSvhn, member: str) -> None:
    with zipfile.ZipFile(svhn(packing="zip") / "mchar_train.zip", "a") as archive:
        archive.writestr(member, b"x")
    refused(podium("prepare"), "mchar_train.zip", repr(member))


def test_an_over_large_image_is_refused_with_strict(
    podium: Podium, svhn: MakeSvhn, png_header: Callable[[int, int], bytes]
) -> None:
    (svhn() / "mchar_train" / "000002.png").write_bytes(png_header(10_000, 6_000))
    refused(podium("prepare", "--strict"), "mchar_train/000002.png", "over-large", "10000x6000 pixels")


def test_a_data_set_without_usable_images_is_refused(podium: Podium, svhn: MakeSvhn) -> None:
    for path in svhn().rglob("*.png"):
        path.write_bytes(b"")
    refused(podium("prepare"), "5 of 5 test images are missing or unreadable", "problems.csv")
    refused(podium("prepare", "--max-unreadable", 1), "no image can be used", "problems.csv")


# ---- the sample submission, folds, sizes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,code\n000000.png,0\n", ("line 1", "the header is name,code, expected file_name,file_code")),
        ("file_code,file_name\n0,000000.png\n", ("line 1", "expected file_name,file_code")),
        ("file_name,file_code\n0.png,0\n1.png,0\n0.png,0\n", ("line 4", "id '0.png' appears twice")),
        ("file_name,file_code\n0.png,0\n1.png\n", ("line 3", "1 cells where the header has 2")),
        ("file_name,file_code\n", ("has no rows",)),
        ("", ("a header line is expected",)),
    ],
)
def test_an_invalid_sample_submission_is_refused(
    podium: Podium, svhn: MakeSvhn, text: str, words: tuple[str, ...]
) -> None:
    (svhn() / "mchar_sample_submit_A.csv").write_text(text)
    refused(podium("prepare"), "mchar_sample_submit_A.csv", *words)


def test_a_food_sample_submission_with_unknown_ids_is_refused(podium: Podium, food11: MakeFood11) -> None:
    (food11() / "sample_submission.csv").write_text("Id,Category\n700,0\n")
    refused(podium("prepare", "--competition", "food11"), "sample_submission.csv", "'700'", "testing/")


def test_an_invalid_folds_file_is_refused_with_its_line(podium: Podium, svhn: MakeSvhn, tmp_path: Path) -> None:
    svhn()
    (tmp_path / "mine.csv").write_text("image_path,fold\nmchar_train/000000.png,first\n")
    refused(podium("prepare", "--folds", "mine.csv"), "mine.csv, line 2: fold 'first' is not a number")
    refused(podium("prepare", "--folds", "none.csv"), "none.csv: no such folds file")


@pytest.mark.parametrize("count", [1, 19, -3])
def test_an_invalid_number_of_folds_is_refused(podium: Podium, svhn: MakeSvhn, count: int) -> None:
    svhn()
    refused(podium("prepare", "--num-folds", count), f"--num-folds {count}: from 2 to 18")


def test_an_invalid_seed_is_refused(podium: Podium, svhn: MakeSvhn) -> None:
    svhn()
    refused(podium("prepare", "--seed", -1), "--seed -1")


@pytest.mark.parametrize("size", [(4, 64), (64, 5000), (0, 0)])
def test_an_invalid_cache_size_is_refused(podium: Podium, svhn: MakeSvhn, size: tuple[int, int]) -> None:
    svhn()
    refused(podium("prepare", "--image-size", *size), f"--image-size {size[0]} {size[1]}", "from 8 to 4096")


# ---- names and flags


# ---- weights and runs
