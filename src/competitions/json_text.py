"""Strict JSON label files: repeated names and NaN are errors, and every error names its line."""

import json
import re
from typing import Any

from src.core.csv_text import decoded
from src.core.errors import InputError

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"\s*:?|[\[\]{}]|-?\d+|-?Infinity|NaN', re.DOTALL)
MAX_DEPTH, MAX_DIGITS = 200, 4300  # deeper than any label file; the most digits of an integer that Python converts


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _find_error(text: str) -> tuple[int, str]:
    """Return the position and description of the first thing that is well-formed JSON but an error in `parse_json`."""
    open_names: list[set[str]] = []  # names so far, for each open object or list
    for match in TOKEN.finditer(text):
        token, position = match[0], match.start()
        if token in "[{":
            open_names.append(set())
            if len(open_names) > MAX_DEPTH:
                return position, "nested too deeply for a label file"
        elif token in "]}":
            open_names.pop()
        elif token.endswith(":"):
            name = json.loads(token[:-1])
            if name in open_names[-1]:
                return position, f"the name {name!r} appears twice; remove one"
            open_names[-1].add(name)
        elif token in ("NaN", "Infinity", "-Infinity"):
            return position, f"{token} is not valid JSON; correct it"
        elif token.lstrip("-").isdigit() and len(token) > MAX_DIGITS:
            return position, f"a number with {len(token):,} digits; correct it"
    return 0, "not readable as JSON; download it again"


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object. Raises InputError with the line if it is cut off, repeats a name, or contains NaN."""
    text = decoded(data, name)

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name appears twice")
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
        position, reason = _find_error(text)
        raise InputError(f"{name}, line {_line_at(text, position)}: {reason}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}, line 1: expected a JSON object, not a {type(value).__name__}")
    return value


def line_of(data: bytes, name: str) -> int:
    """Return the line of the entry called `name` in a JSON object that `parse_json` accepted."""
    text = decoded(data, name)
    for match in TOKEN.finditer(text):
        if match[0].endswith(":") and json.loads(match[0][:-1]) == name:
            return _line_at(text, match.start())
    return 1
