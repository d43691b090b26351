"""JSON files with a checksum of their values, so that hand edits are detected; most hold one dataclass each."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from src.core.errors import InputError
from src.core.writing import write_json, write_text

Record = TypeVar("Record")
SEAL = re.compile(rb'\s*{\s*"seal": "([0-9a-f]{64})"')  # the first value: a million rows may follow
_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter_of(kind: type[Record]) -> TypeAdapter[Record]:
    """Return what reads and writes a dataclass as JSON. Building it takes much longer than using it."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def seal_of(record: Any) -> str:
    """Return the SHA-256 of a dataclass's values: its name wherever another file must say what it belongs to.

    Values at their default do not count, so that a record keeps its name when later code knows one setting more.
    """
    return hashlib.sha256(adapter_of(type(record)).dump_json(record, exclude_defaults=True)).hexdigest()


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as indented JSON with its seal, atomically."""
    values = adapter_of(type(record)).dump_python(record, mode="json")
    text = json.dumps({"seal": seal_of(record), **values}, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_record(path: Path, kind: type[Record], missing: str, repair: str) -> Record:
    """Read a dataclass of this kind. Raises InputError if the file is missing or not as it was written.

    `missing` and `repair` say what to do in either case.
    """
    try:
        data = path.read_bytes()
        record = adapter_of(kind).validate_json(data)
        seal = SEAL.match(data)
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there; {missing}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: is damaged ({where + ': ' if where else ''}{first['msg']}); {repair}") from error
    if seal is None or seal[1].decode() != seal_of(record):
        raise InputError(f"{path}: was edited after it was written (its checksum does not match); {repair}")
    return record


def _seal_of_values(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write plain values as indented JSON with their seal, atomically. Raises ValueError for NaN and infinity."""
    values = json.loads(json.dumps(values, allow_nan=False))  # as they will be read: keys are texts
    write_json(path, {"seal": _seal_of_values(values), **values})


def read_sealed(path: Path, repair: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote. Raises InputError if it is damaged or was edited; `repair` says what to do."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = values.pop("seal", None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error}); {repair}") from error
    if seal != _seal_of_values(values):
        raise InputError(f"{path}: was edited after it was written (its checksum does not match); {repair}")
    return values
