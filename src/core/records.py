"""JSON files of one dataclass each, written in one way and checked field by field when read."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from src.core.errors import InputError
from src.core.writing import write_text

Record = TypeVar("Record")


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as indented JSON, atomically."""
    write_text(path, TypeAdapter(type(record)).dump_json(record, indent=2).decode() + "\n")


def read_record(path: Path, kind: type[Record], missing: str, repair: str) -> Record:
    """Read a dataclass of this kind. Raises InputError if the file is missing or a field is not as it was written.

    `missing` and `repair` say what to do in either case.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there; {missing}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: is damaged ({where + ': ' if where else ''}{first['msg']}); {repair}") from error
