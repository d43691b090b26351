"""CSV cells are read unchanged, zips like folders, and nothing outside the competition's folder is touched."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.located import FileTable
from src.core.reading import InputFiles
from src.core.zips import Location, Member, checked_name, read_location
from tests.fixtures import MakeSvhn

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.mark.parametrize("text", ["000123", "NA", "null", "nan", "1e5", "", " a ", 'say "x, y"', "1_000", "é"])
def test_a_cell_keeps_its_text(text: str) -> None:
    quoted = text.replace('"', '""')
    assert parse_csv(f'id,x\n7,"{quoted}"\n'.encode(), "a.csv")["x"].tolist() == [text]


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_cells() -> None:
    table = parse_csv(b"\xef\xbb\xbfid,label\r\n1,a\r\n\r\n2,b\r\n", "a.csv")
    assert list(table.columns) == ["id", "label"]
    assert table.to_numpy().tolist() == [["1", "a"], ["2", "b"]]
    assert table.index.tolist() == [2, 4]  # line numbers in the file


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"id,x\n1,a\n2,b,c\n", 3, "3 cells where the header has 2"),
        (b"id,x\n1,a\n2\n", 3, "1 cells where the header has 2"),
        (b'id,x\n1,a\n2,"b\n', 3, "unexpected end of data"),
        (b'id,x\n1,"a"b\n', 2, "expected after"),
        (b"id,x\n1,a\n2,\0\n", 3, "NUL"),
        (b"id,x,id\n1,a,2\n", 1, "column 'id' appears twice"),
        (b"id,x\n1,a\n2,\xff\n", 3, "0xff is not UTF-8"),
    ],
)
def test_a_broken_csv_is_an_error_naming_the_line(data: bytes, line: int, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        parse_csv(data, "a.csv")
    assert str(error.value).startswith(f"a.csv, line {line}: ")


@pytest.mark.parametrize("data", [b"", b"\n", b",\n"])
def test_a_csv_without_a_header_is_an_error(data: bytes) -> None:
    with pytest.raises(InputError, match="a header line is expected"):
        parse_csv(data, "a.csv")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_any_csv_is_read_back_unchanged(rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("id", "label"), *rows])
    assert [tuple(row) for row in parse_csv(stream.getvalue().encode(), "a.csv").to_numpy()] == rows


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "\\\\host\\x", "../a.png", "a/../../b.png", "a\\..\\b.png", "C:a.png", "a\0.png"]
)
def test_a_name_that_could_leave_the_folder_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=r"labels.csv, line 7: .*not a plain relative name"):
        checked_name(name, "labels.csv, line 7")


@pytest.mark.parametrize("name", ["a.png", "sub/a.png", "a..png", "..a.png", "...", "é 1.png"])
def test_a_plain_relative_name_is_kept(name: str) -> None:
    assert checked_name(name, "labels.csv") == name


@pytest.mark.parametrize("packing", ["nested", "zip"])
def test_nested_and_zipped_downloads_give_the_same_images_as_plain_folders(
    svhn: MakeSvhn, tmp_path: Path, packing: str
) -> None:
    read = []
    for way in ("folder", packing):
        files = InputFiles(svhn(packing=way))
        paths = files.images("mchar_train")
        read.append({path: read_location(files.located[path]) for path in paths})
        (tmp_path / "input").rename(tmp_path / f"was {way}")
    assert list(read[0]) == [f"mchar_train/{i:06d}.png" for i in range(12)]
    assert read[0] == read[1]
    # macOS zips hold a junk file for each image; without skipping them there would be 24.
    assert len(read[1]) == 12


def test_an_unpacked_file_takes_precedence_over_the_zip(svhn: MakeSvhn) -> None:
    folder = svhn(packing="zip")
    corrected = folder / "mchar_train" / "000003.png"
    corrected.parent.mkdir()
    corrected.write_bytes(b"corrected")
    files = InputFiles(folder)
    assert len(files.images("mchar_train")) == 12
    assert read_location(files.located["mchar_train/000003.png"]) == b"corrected"
    with zipfile.ZipFile(folder / "labels.zip", "w") as archive:
        archive.writestr("mchar_train.json", "{}")
    assert files.find("mchar_train.json") == InputFiles(folder).find("mchar_train.json")


def write_png(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a")


def test_one_name_in_two_folders_is_an_error_naming_both_paths(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "train" / "1.png")
    write_png(tmp_path / "b" / "train" / "1.png")
    with pytest.raises(InputError, match=r"b/train/1.png: the same image lies at .*a/train/1.png"):
        InputFiles(tmp_path).images("train")


def test_images_of_rarer_kinds_are_found(tmp_path: Path) -> None:
    for suffix in ("jfif", "JPE", "ppm", "jp2"):
        write_png(tmp_path / "train" / f"1.{suffix}")
    assert len(InputFiles(tmp_path).images("train")) == 4


def test_archives_that_are_not_read_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("train.zip", b"")
    with pytest.raises(InputError, match=r"holds no images; all/train.zip is not read: unpack it into"):
        InputFiles(tmp_path).images("train")


def test_raw_images_change_with_their_shape(tmp_path: Path) -> None:
    write_png(tmp_path / "train.parquet")
    stamps = set()
    for shape in ((1, 4, 6), (1, 6, 4)):
        files = InputFiles(tmp_path)
        (path,) = files.add_pixels("train", np.arange(24, dtype=np.uint8).reshape(shape), Location("f", "", 1, 1))
        stamps.add(files.located[path].stamp)
    assert len(stamps) == 2


def test_a_cell_may_be_long() -> None:
    assert len(parse_csv(b"id,mask\n1," + b"1 " * 200_000 + b"\n", "train.csv")["mask"].iloc[0]) == 400_000


def test_one_label_file_in_two_folders_is_an_error(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_png(tmp_path / folder / "train.csv")
    with pytest.raises(InputError, match="train.csv appears twice"):
        InputFiles(tmp_path).find("train.csv")


@pytest.mark.parametrize("link_to_folder", [False, True])
def test_a_link_out_of_the_folder_is_an_error_naming_the_link(tmp_path: Path, link_to_folder: bool) -> None:
    secret = tmp_path / "outside" / "secret.png"
    write_png(secret)
    link = tmp_path / "input" / "train" / "x.png"
    write_png(link.with_name("1.png"))
    link.symlink_to(secret.parent if link_to_folder else secret)
    with pytest.raises(InputError, match=r"train/x.png: is a symbolic link to .*outside"):
        InputFiles(tmp_path / "input")


def test_the_input_folder_may_be_a_link_and_may_contain_internal_links(tmp_path: Path) -> None:
    write_png(tmp_path / "disk" / "train" / "1.png")
    (tmp_path / "disk" / "train" / "2.png").symlink_to("1.png")
    (tmp_path / "input").symlink_to(tmp_path / "disk")
    assert InputFiles(tmp_path / "input").images("train") == ["train/1.png", "train/2.png"]


def test_a_missing_folder_or_file_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    source = "Get it from example.org"
    with pytest.raises(InputError, match=r"none: no such folder. Get it from example.org"):
        InputFiles(tmp_path / "none", source)
    with pytest.raises(InputError, match=r"the folder is empty. Get it from example.org"):
        InputFiles(tmp_path, source)
    write_png(tmp_path / "train" / "1.png")
    files = InputFiles(tmp_path, source)
    with pytest.raises(InputError, match=r"train.csv is missing. Get it from example.org"):
        files.table("train.csv")
    with pytest.raises(
        InputError,
        match=r"called 'test'; the folders with images are train \(1\). Get it from ex",
    ):
        files.images("test")


def test_each_image_of_a_pixel_file_gets_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "digits.bin").write_bytes(b"a")
    files = InputFiles(tmp_path)
    location = files.find("digits.bin")
    grey = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    paths = files.add_pixels("train", grey, location)
    assert paths == ["train/00000", "train/00001", "train/00002"]
    assert list(files.located) == list(files.pixels) == paths
    for path, image in zip(paths, grey, strict=True):
        assert files.pixels[path].shape == (4, 5, 3)
        assert (files.pixels[path] == image[..., None]).all()
        assert files.located[path].file == location.file
    assert len({location.stamp for location in files.located.values()}) == 3  # of their pixels
    colour = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    for row, path in enumerate(files.add_pixels("test", colour, location)):
        assert (files.pixels[path] == colour[row]).all()
    assert len(files.pixels) == 5


def test_numbers_that_no_column_holds_are_no_crash(tmp_path: Path) -> None:
    table = FileTable(str(tmp_path))
    table.add_file("far future.png", 1, 2**63 + 5)
    table.add_archive("a.zip", "a")
    table.add_member("a/1.png", Member("1.png", 0, 2**64 - 1, 7, -(2**64), 3))
    table.finish()
    assert table.location(0)[1:4] == ("", 1, 2**63 - 1)
    assert table.location(1) == Location("a.zip", "1.png", 2**63 - 1, 7, 1 - 2**63, 3)


def test_a_class_may_be_called_like_the_folder_of_all_classes(tmp_path: Path) -> None:
    for name in ("bus/1", "train/1", "train/2"):
        write_png(tmp_path / "train" / f"{name}.png")
    assert list(InputFiles(tmp_path).images("train")) == ["train/bus/1.png", "train/train/1.png", "train/train/2.png"]
    write_png(tmp_path / "other" / "train" / "train" / "cat" / "1.png")  # a folder of one name, as zips have
    assert list(InputFiles(tmp_path / "other").images("train")) == ["train/cat/1.png"]


def test_copies_that_a_notebook_keeps_are_no_images(tmp_path: Path) -> None:
    for name in ("cat/1", "cat/.ipynb_checkpoints/1-checkpoint", ".ipynb_checkpoints/2-checkpoint"):
        write_png(tmp_path / "train" / f"{name}.png")
    assert list(InputFiles(tmp_path).images("train")) == ["train/cat/1.png"]
