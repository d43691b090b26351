"""JSON files of one dataclass each, with a checksum, so that hand edits are detected."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from src.core.errors import InputError
from src.core.writing import write_text

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
