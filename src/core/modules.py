"""Importing a Python file of the user's own, and packages that are installed only if they are needed."""

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
        where, said = f"{path}, line {line}" if line else str(path), getattr(error, "msg", error)
        raise InputError(f"{where}: {type(error).__name__}: {said}") from error
    return module


def check_extra(what: str, extra: str, *modules: str) -> None:
    """Raise InputError if a package of requirements-<extra>.txt is missing; imports none. `what` needs it."""
    missing = [name for name in modules if not has_modules(name)]
    if missing:
        raise InputError(f"{what}: {', '.join(missing)} not installed; pip install -r requirements-{extra}.txt")


def has_modules(*names: str) -> bool:
    """Return whether all of these packages are installed; imports none."""
    return all(importlib.util.find_spec(name) is not None for name in names)
