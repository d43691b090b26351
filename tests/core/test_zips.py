"""Zips of images: what is found in them, and what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.core import zips
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import member_name, read_location, zip_members
from tests.fixtures import MakeSvhn


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


def test_a_name_that_is_not_what_its_flag_says_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("中.png", b"a")
    path.write_bytes(path.read_bytes().replace("中".encode(), b"\xd6\xd0x"))  # as GBK, and the flag says UTF-8
    with pytest.raises(InputError, match="train.zip: not a readable zip"):
        InputFiles(tmp_path)


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
    assert len(files.found) == 5
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
