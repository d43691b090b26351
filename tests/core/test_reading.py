"""CSV cells are read unchanged, zips like folders, and nothing outside the competition's folder is touched."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core import zips
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.located import FileTable
from src.core.reading import InputFiles
from src.core.zips import Location, Member, checked_name, member_name, read_location, zip_members
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
        (b"id,x,id\n1,a,2\n", 1, "column 'id' is there twice"),
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


def test_one_name_in_two_zips_is_an_error_unless_the_images_are_equal(tmp_path: Path) -> None:
    for part in ("one", "other"):
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            archive.writestr("train/1.png", b"a")
            archive.writestr("train/2.png", part.encode())
            archive.writestr("test/1.png", b"b")
    files = InputFiles(tmp_path)
    with pytest.raises(InputError, match=r"other.zip, train/2.png: the same image lies at .*one.zip, train/2.png"):
        files.images("train")
    assert list(files.images("test")) == ["test/1.png"]


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
    with pytest.raises(InputError, match="train.csv is there twice"):
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


@pytest.mark.parametrize("member", ["../escape.png", "/abs.png", "a/../../b.png"])
def test_a_zip_with_an_escaping_member_is_an_error(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("1.png", b"a")
        archive.writestr(member, b"a")
    with pytest.raises(InputError, match=rf"train.zip: file name {member!r} is not a plain relative name"):
        InputFiles(tmp_path)


def test_a_broken_zip_is_an_error_naming_the_file(svhn: MakeSvhn) -> None:
    path = svhn(packing="zip") / "mchar_val.zip"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"mchar_val.zip: not a readable zip .*download it again"):
        InputFiles(path.parent)


@pytest.mark.parametrize("name", ["Müller.png", "café_1.jpg", "fête/1.jpg", "ñandú.png", "Å.png"])
def test_an_accented_name_in_a_zip_without_the_utf8_flag_is_kept(name: str) -> None:
    info = zipfile.ZipInfo(name)
    info.flag_bits = 0
    assert member_name(info) == name


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_member_is_an_error_naming_it(tmp_path: Path, compression: int) -> None:
    content = np.random.default_rng(0).integers(0, 16, 4000, dtype=np.uint8).tobytes()
    with zipfile.ZipFile(tmp_path / "train.zip", "w", compression) as archive:
        archive.writestr("1.png", content)
    data = bytearray((tmp_path / "train.zip").read_bytes())
    data[600:700] = bytes(100)
    (tmp_path / "train.zip").write_bytes(data)
    files = InputFiles(tmp_path)
    files.images("train")
    with pytest.raises(InputError, match=r"train.zip: 1.png is damaged .*download it again"):
        read_location(files.located["train/1.png"])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_is_read_with_any_compression_and_after_a_prefix(tmp_path: Path, compression: int) -> None:
    path, content = tmp_path / "train.zip", bytes(range(256)) * 20
    path.write_bytes(b"#!/bin/sh the start of a zip that unpacks itself")
    with zipfile.ZipFile(path, "a", compression) as archive:
        with archive.open("folder/1.png", "w", force_zip64=True) as stream:  # has an extra field
            stream.write(content)
        archive.writestr("folder/猫.png", content[::-1])
        archive.writestr("folder/empty.png", b"")
    files = InputFiles(tmp_path)
    files.images("train")
    assert read_location(files.located["train/folder/1.png"]) == content
    assert read_location(files.located["train/folder/猫.png"]) == content[::-1]
    assert read_location(files.located["train/folder/empty.png"]) == b""


def test_a_member_that_unpacks_to_more_than_declared_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(100_000))
    data = (tmp_path / "train.zip").read_bytes()
    declared = (100_000).to_bytes(4, "little")
    (tmp_path / "train.zip").write_bytes(data.replace(declared, (10).to_bytes(4, "little")))
    files = InputFiles(tmp_path)
    files.images("train")
    with pytest.raises(InputError, match=r"train.zip: 1.png is damaged .*checksum"):
        read_location(files.located["train/1.png"])


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


def compress(path: Path, names: list[str], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, bytes([number]) * number)


@pytest.mark.parametrize("comment", [b"", b"a comment"])
@pytest.mark.parametrize("extra", [b"", b"UT\x05\0\1aaaa", b"\x75\x70\x04\0aaaa", b"\1\0\x08\0aaaaaaaa", b"UT\xff\0a"])
def test_the_directory_of_a_zip_is_read_as_zipfile_reads_it(tmp_path: Path, comment: bytes, extra: bytes) -> None:
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for number, name in enumerate(["a/", "a/1.png", "a/猫.png", "a\\b.png", "./c//d.png", "a/é.png"]):
            info = zipfile.ZipInfo(name)
            info.extra, info.comment = (extra if number == 4 else b""), b"x" * number
            archive.writestr(info, bytes(1000 * number))
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except zipfile.BadZipFile:
        with pytest.raises(InputError, match="train.zip: not a readable zip"):
            list(zip_members(path))
        return
    expected = [(i.filename, i.flag_bits, i.file_size, i.CRC, i.header_offset, i.compress_size) for i in infos]
    assert [tuple(member) for member in zip_members(path)] == expected
    names = ["train/a/1.png", "train/a/b.png", "train/a/é.png", "train/a/猫.png", "train/c/d.png"]
    files = InputFiles(tmp_path)
    assert files.images("train") == names
    for name in names:
        assert set(read_location(files.located[name])) == {0}


def test_a_zip_of_more_members_than_its_old_format_counts_is_read(tmp_path: Path) -> None:
    path, count = tmp_path / "train.zip", 66_000
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", b"")
    assert zips._directory(path)[1] == count
    with zipfile.ZipFile(path) as archive:
        assert [member.filename for member in zip_members(path)] == archive.namelist()


def test_a_zip_of_more_than_4_gib_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # so that zipfile writes sizes and offsets as for 4 GiB
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, size in enumerate((0, 1, 1000, 2)):
            archive.writestr(f"{number}.png", bytes(size))
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    assert any(info.extra for info in infos)
    expected = [(i.filename, i.flag_bits, i.file_size, i.CRC, i.header_offset, i.compress_size) for i in infos]
    monkeypatch.setattr(zips, "_any_members", lambda *_: pytest.fail("700 bytes of memory a member"))
    assert [tuple(member) for member in zip_members(path)] == expected


def test_an_ordinary_zip_does_not_need_zipfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress(tmp_path / "train.zip", ["1.png", "sub/", "sub/猫.png"])
    monkeypatch.setattr(zips, "_any_members", lambda *_: pytest.fail("700 bytes of memory a member"))
    assert InputFiles(tmp_path).images("train") == ["train/1.png", "train/sub/猫.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_what_is_there_several_times_the_unpacked_file_and_the_last_member_count(tmp_path: Path) -> None:
    compress(tmp_path / "train.zip", ["0.png", "1.png", "./1.png", "1.png", "2.png", "2.png", "3.png"])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "2.png").write_bytes(b"plain")
    files = InputFiles(tmp_path)
    (note,) = files.notes
    assert note.startswith(f"note: {tmp_path / 'train.zip'} holds 3 files more than once, such as ./1.png; the last")
    assert files.images("train") == [f"train/{number}.png" for number in range(4)]
    assert len(files.index) == 5
    content = [read_location(files.located[f"train/{number}.png"]) for number in range(4)]
    assert content == [b"", bytes([3]) * 3, b"plain", bytes([6]) * 6]


def test_many_images_are_looked_up_at_once(tmp_path: Path) -> None:
    compress(tmp_path / "train.zip", ["0.png", "1.png"])
    files = InputFiles(tmp_path)
    files.images("train")
    files.located["own"] = files.located["train/1.png"]._replace(size=7, stamp=8)
    locations = files.located.locations(["own", "train/9.png", "train/1.png"])
    assert [place and place.member for place in locations] == ["1.png", None, "1.png"]
    assert locations.missing().tolist() == [1]
    sizes, stamps = locations.sizes_and_stamps()
    assert sizes.tolist() == [7, -1, 1]
    assert stamps[:2].tolist() == [8, -1]
    assert list(files.located) == ["train/0.png", "train/1.png", "own"]
    assert len(files.located) == 3
    files.forget()
    assert "train/1.png" not in files.located


def test_numbers_that_no_column_holds_are_no_crash(tmp_path: Path) -> None:
    table = FileTable(str(tmp_path))
    table.add_file("far future.png", 1, 2**63 + 5)
    table.add_archive("a.zip", "a")
    table.add_member("a/1.png", Member("1.png", 0, 2**64 - 1, 7, -(2**64), 3))
    table.finish()
    assert table.location(0)[1:4] == ("", 1, 2**63 - 1)
    assert table.location(1) == Location("a.zip", "1.png", 2**63 - 1, 7, 1 - 2**63, 3)
