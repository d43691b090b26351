"""JSON label files, read without guessing: repeated names and NaN are refused, and each mistake told with its line."""

import json
import re
from typing import Any

from src.core.errors import InputError
from src.core.reading import decoded

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"\s*:?|[\[\]{}]|-?\d+|-?Infinity|NaN', re.DOTALL)
DEEPEST, LONGEST = 200, 4300  # nesting that no label file has, digits of a whole number that Python converts


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _mistake(text: str) -> tuple[int, str]:
    """Return the place of the first thing that `parse_json` does not take though it is well formed, and what it is."""
    open_names: list[set[str]] = []  # of each object or list that is open
    for match in TOKEN.finditer(text):
        token, place = match[0], match.start()
        if token in "[{":
            open_names.append(set())
            if len(open_names) > DEEPEST:
                return place, "nested too deeply for a label file"
        elif token in "]}":
            open_names.pop()
        elif token.endswith(":"):
            name = json.loads(token[:-1])
            if name in open_names[-1]:
                return place, f"the name {name!r} is there twice; remove one"
            open_names[-1].add(name)
        elif token in ("NaN", "Infinity", "-Infinity"):
            return place, f"{token} is not a value that JSON knows; correct it"
        elif token.lstrip("-").isdigit() and len(token) > LONGEST:
            return place, f"a number of {len(token):,} digits; correct it"
    return 0, "cannot be read; download it again"


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object. Raises InputError with the line where it is cut off, repeats a name, or has NaN in it."""
    text = decoded(data, name)

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name is there twice")
        return result

    def no_constant(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text, object_pairs_hook=no_repeats, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}, line {error.lineno}, column {error.colno}: {error.msg}; is the file cut off?"
        ) from error
    except (ValueError, RecursionError) as error:
        place, why = _mistake(text)
        raise InputError(f"{name}, line {_line_at(text, place)}: {why}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}, line 1: a JSON object is expected, not a {type(value).__name__}")
    return value


def line_of(data: bytes, name: str) -> int:
    """Return the line of the entry of this name in a JSON object that `parse_json` has read."""
    text = decoded(data, name)
    for match in TOKEN.finditer(text):
        if match[0].endswith(":") and json.loads(match[0][:-1]) == name:
            return _line_at(text, match.start())
    return 1
