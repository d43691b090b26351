"""Importing a Python file of the user's own; packages that only some commands need."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from src.core.errors import InputError


def load_module(path: Path, kind: str) -> ModuleType:
    """Import a user's file, such as --competition mine.py.

    Raises InputError if it does not exist, or for whatever its code raises.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such {kind} file")
    name = f"podium_{kind}_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except InputError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:  # whatever their code raises is a mistake in their file
        del sys.modules[name]
        line = getattr(error, "lineno", None)
        raise InputError(f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {error}") from error
    return module


def require_extra(module: str, package: str, file: str, what: str) -> None:
    """Raise InputError if an optional package is not installed; `what` needs it and `file` pins it."""
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{what}: {package} is not installed; pip install -r {file}")
