"""Unusual or malicious label files and names are read exactly or raise a one-line error."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.competitions.registry import load_competition
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import read_location
from tests.drawing import draw, write_image
from tests.fixtures import MakeLeaves, MakeSvhn

MANY = pytest.mark.slow
TEXTS = st.one_of(
    st.sampled_from(
        ["NA", "null", "None", "nan", "1e5", "000123", "0x1F", "TRUE", "1_000", "-0", "１２", "=1+1", "inf"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=12),
)
CELLS = TEXTS.filter(lambda text: text.strip() != "")


def fuzz(count: int) -> Callable[[Any], Any]:
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check_message(error: InputError, name: str, line: bool = True) -> None:
    """Check that a message is one line that names the file and the line."""
    text = str(error)
    assert name in text
    assert "\n" not in text.replace("\\n", "")
    assert not line or re.search(r"(csv|json), line \d+[,:]", text)


def written(rows: list[list[str]], quoting: Any, end: str, mark: str) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, quoting=quoting, lineterminator=end).writerows(rows)
    return (mark + stream.getvalue()).encode()


TABLES = st.tuples(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
BREAKS = ["NUL", "extra cell", "missing cell", "repeated column", "GBK", "open quote", "half a character"]


def broken(kind: str, rows: list[list[str]], form: tuple[Any, str, str], index: int) -> bytes:
    """Return the table as CSV with one error in a row or the header."""
    rows = [list(row) for row in rows]
    row = rows[index % len(rows)]
    if kind == "extra cell":
        row.append("7")
    elif kind == "missing cell":
        row.pop()
    data = written([["id", "id"] if kind == "repeated column" else ["id", "label"], *rows], *form)
    if kind == "NUL":
        return data + b"a\0,b\n"
    if kind == "GBK":
        # Some pairs of characters in GBK are also valid UTF-8, which cannot be detected; these are not.
        return data + "图片,标签\n".encode("gbk")
    if kind == "open quote":
        return data + b'a,"b\n'
    return data + b"a,\xe4\xb8\n" if kind == "half a character" else data


def check_csv(count: int) -> None:
    @fuzz(count // 2)
    @given(TABLES)
    def valid(table: tuple[Any, ...]) -> None:
        rows, *form = table
        frame = parse_csv(written([["id", "label"], *rows], *form), "train.csv")
        assert frame.to_numpy().tolist() == rows

    @fuzz(count // 2)
    @given(TABLES, st.sampled_from(BREAKS), st.integers(0, 5))
    def invalid(table: tuple[Any, ...], kind: str, index: int) -> None:
        rows, *form = table
        with pytest.raises(InputError) as caught:
            parse_csv(broken(kind, rows, tuple(form), index), "train.csv")
        check_message(caught.value, "train.csv")

    valid()
    invalid()


NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
BAD_DIGITS: list[Any] = [10, -1, 1e5, 1.0, "7", "NA", "000123", True, None, [1], {}, 10**30, 0.5, ""]


def check_json(folder: Path, count: int) -> None:
    names = [f"{number:06d}.png" for number in range(3)]
    competition = load_competition("svhn")

    def read(data: bytes) -> list[list[int]]:
        (folder / "mchar_train.json").write_bytes(data)
        table = competition.read_train(InputFiles(folder))
        table = table[table["image_path"].str.startswith("mchar_train/")]
        rows = table.sort_values("image_path")[competition.targets].to_numpy().tolist()
        return [[digit for digit in row if digit != competition.pad_class] for row in rows]

    def entries(numbers: list[list[Any]]) -> dict[str, Any]:
        box = {key: [1] * len(numbers[0]) for key in ("top", "left", "width", "height")}
        return {
            name: {"label": digits, **{key: [1] * len(digits) for key in box}}
            for name, digits in zip(names, numbers, strict=True)
        }

    @fuzz(count // 2)
    @given(st.lists(NUMBERS, min_size=3, max_size=3), st.sampled_from(["", "\ufeff"]), st.sampled_from([None, 2]))
    def valid(numbers: list[list[int]], mark: str, indent: int | None) -> None:
        assert read((mark + json.dumps(entries(numbers), indent=indent)).encode()) == numbers

    @fuzz(count // 4)
    @given(st.lists(NUMBERS, min_size=3, max_size=3), st.sampled_from(BAD_DIGITS), st.integers(0, 5), st.integers(0, 2))
    def bad_digit(numbers: list[list[Any]], value: Any, index: int, row: int) -> None:
        numbers = [list(digits) for digits in numbers]
        numbers[row][index % len(numbers[row])] = value
        with pytest.raises(InputError) as caught:
            read(json.dumps(entries(numbers)).encode())
        check_message(caught.value, names[row])

    @fuzz(count // 4)
    @given(st.lists(NUMBERS, min_size=3, max_size=3), st.integers(0, 7), st.floats(0, 0.99))
    def invalid(numbers: list[list[int]], kind: int, share: float) -> None:
        text = json.dumps(entries(numbers))
        data = [
            text[: int(len(text) * share)].encode(),
            (text[:-1] + f', "{names[0]}": {{"label": [1]}}}}').encode(),
            text.replace("1", "NaN", 1).encode() if "1" in text else b"{NaN}",
            text.replace("[", "[Infinity, ", 1).encode(),
            text.replace("[", "[" * 100_000, 1).encode(),
            text.replace("[", "[" + "9" * 5000 + ", ", 1).encode(),
            text.encode() + b"\0",
            text.replace(names[0], "标签.png").encode("gbk"),
        ][kind]
        with pytest.raises(InputError) as caught:
            read(data)
        check_message(caught.value, "mchar_train")

    valid()
    bad_digit()
    invalid()


@pytest.mark.parametrize("count", [400, pytest.param(6000, marks=MANY)])
def test_random_csv_files_are_read_exactly_or_an_error(count: int, figure: Callable[[str], None]) -> None:
    check_csv(count)
    figure(f"random CSV files: {count} cases, 0 tracebacks, 0 labels changed, every error names file and line")


@pytest.mark.parametrize("count", [200, pytest.param(4000, marks=MANY)])
def test_random_json_files_are_read_exactly_or_an_error(
    svhn: MakeSvhn, count: int, figure: Callable[[str], None]
) -> None:
    check_json(svhn(num_train=3, num_val=3, num_test=1), count)
    figure(f"random JSON files: {count} cases, 0 tracebacks, 0 labels changed, every error names file and line")


PREFIXES = [
    "../", "..\\", "../../", "a/../../", "a\\..\\..\\", "./../", "/", "//", "\\", "\\\\host\\share\\", "C:\\", "c:/",
    "~/", "file:///", "train/../../", "..", "../train/../../", "/proc/self/root/", "/dev/", "\0", "a\0/../",
    "....//", "..;/", "%2e%2e/", ".. /",
]  # fmt: skip
TARGETS = [
    "secret.png",
    "etc/passwd",
    "zero",
    "stdin",
    "secret.png\0.png",
    "CON",
    "NUL.png",
    "nul",
    "a b.png",
    "图.png",
]


def test_label_names_never_lead_outside_the_folder(
    leaves: MakeLeaves, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    competition = load_competition(str(leaves()))
    folder = tmp_path / "input" / "leaves"
    write_image(tmp_path / "input" / "secret.png", draw(1))
    names = [prefix + target for prefix in PREFIXES for target in TARGETS]
    refused = missing = 0
    original = (folder / "train.csv").read_text()
    for name in names:
        (folder / "train.csv").write_text(f'{original}"{name}",007\n')
        try:
            table = competition.read_train(InputFiles(folder))
        except InputError as error:
            check_message(error, "train.csv")
            refused += 1
            continue
        files = InputFiles(folder)
        paths = set(competition.read_train(files)["image_path"]) - set(files.located)
        assert len(paths) == 1  # a plain name without an image: reported as missing, and never opened
        assert all(Path(location.file).is_relative_to(folder.resolve()) for location in files.located.values())
        assert len(table) == 17
        missing += 1
    assert refused + missing == len(set(names)) == 250
    figure(f"names in labels: {len(names)} cases, {refused} errors, {missing} missing; 0 reads outside the folder")


def test_zip_members_never_lead_outside_the_folder(tmp_path: Path, figure: Callable[[str], None]) -> None:
    folder, count = tmp_path / "input" / "x", 0
    folder.mkdir(parents=True)
    for prefix in PREFIXES:
        name = prefix.replace("\0", "") + "secret.png"
        with zipfile.ZipFile(folder / "train.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"x")
        before = sorted(tmp_path.rglob("*"))
        try:
            inside = [PurePosixPath(path) for path in InputFiles(folder).found.paths]
        except InputError as error:
            check_message(error, "train.zip", line=False)
        else:
            assert all(".." not in path.parts and not path.is_absolute() for path in inside)
        assert sorted(tmp_path.rglob("*")) == before
        count += 1
    figure(f"zip members: {count} cases, an error or kept inside; nothing is unpacked to disk, no tar is read")


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_chinese_names_in_zips_without_the_utf8_flag_are_read(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "input" / "x"
    folder.mkdir(parents=True)
    name, content = "训练集/图片 一.png", bytes(range(256))
    raw = name.encode(encoding)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        archive.writestr("A" * len(raw), content)
    data = (folder / "train.zip").read_bytes().replace(b"A" * len(raw), raw)
    (folder / "train.zip").write_bytes(data)
    files = InputFiles(folder)
    assert files.images("训练集") == [name]
    assert read_location(files.located[name]) == content
