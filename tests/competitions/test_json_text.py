"""Strict JSON label files: every error names its line."""

import json

import pytest

from src.competitions.json_text import line_of, parse_json
from src.core.errors import InputError


def test_a_json_object_is_read() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "x"]}', "a.json") == {"a": [1, 2.5, "x"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1,\n"b": [1,\n', "line 3, column 1: .*cut off"),
        (b'{"a": {"x": 1},\n"a": {"x": 2}}', "line 2: the name 'a' appears twice"),
        (b'{"a": {"x": 1},\n"b": {"x": 2,\n\n"x": 2}}', "line 4: the name 'x' appears twice"),
        (b'{"a{": "}\\"{",\n"b": {"x": 2},\n"\\u0061{"  : 2}', "line 3: the name 'a{' appears twice"),
        (b'{"NaN": "Infinity:",\n"a": NaN}', "line 2: NaN is not valid JSON"),
        (b'{"a":\n\n-Infinity}', "line 3: -Infinity is not valid JSON"),
        (b'{"a": 1,\n"b": -' + b"9" * 5000 + b"}", "line 2: a number with 5,001 digits"),
        (b"[1, 2]", "line 1: expected a JSON object, not a list"),
        (b'{"b": 1,\n' + b'"a": {\n' * 100_000, "line 201: nested too deeply"),
        (b'{"a": 1,\n"b": "\xff"}', "line 2: byte 0xff is not UTF-8"),
        (b"", "line 1, column 1"),
    ],
)
def test_a_broken_json_is_an_error_with_line_and_reason(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^a.json, {message}"):
        parse_json(data, "a.json")


def test_an_entry_is_found_by_its_name() -> None:
    entries = {"a": "b", "b": {"c": 'say "d":'}, "d": 1, "é": 2}
    for ascii_only in (True, False):
        data = json.dumps(entries, indent=1, ensure_ascii=ascii_only).encode()
        assert [line_of(data, name) for name in entries] == [2, 3, 6, 7]


def test_an_error_at_the_end_of_a_large_file_is_found() -> None:
    entries = {f"{number:06d}.png": {"label": [1, 2], "left": [1, 2], "top": [1, 2]} for number in range(30_000)}
    data = json.dumps({**entries, "last": float("nan")}, indent=1).encode()
    with pytest.raises(InputError, match=rf"line {data.count(bytes([10]))}: NaN"):
        parse_json(data, "a.json")
