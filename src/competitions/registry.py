"""Competitions by name or by file."""

import difflib
import importlib
import pkgutil
from pathlib import Path

from src import competitions
from src.competitions.boxes import boxes_of
from src.competitions.instances import instances_of
from src.competitions.spec import Competition
from src.core.errors import InputError, nearest
from src.core.modules import load_module

DERIVED = {"boxes": boxes_of, "instances": instances_of}  # NAME:boxes is another question about the images of NAME

HELPERS = frozenset(
    {
        "arrays", "boxes", "checking", "columns", "counts", "decision", "demo_images", "folders", "instances",
        "json_text", "layout", "metric", "parquet", "reading_labels", "registry", "spec", "strings", "tables",
    }
)  # fmt: skip  # modules of this package that are not competitions


def competition_names() -> list[str]:
    """Return the names of the competitions in this package."""
    return sorted(module.name for module in pkgutil.iter_modules(competitions.__path__) if module.name not in HELPERS)


def load_competition(name: str) -> Competition:
    """Return the competition of that module name, or the one that a file path/to/mine.py defines as COMPETITION.

    NAME:boxes and NAME:instances ask something else about the images of NAME, see boxes.py and instances.py. Raises
    InputError for an unknown name (suggesting the nearest), a missing file, or a file that cannot be used.
    """
    original, _, question = name.rpartition(":")
    if original and question in DERIVED:
        return DERIVED[question](load_competition(original))
    if name.endswith(".py"):
        module = load_module(Path(name), "competition")
    elif name in competition_names():
        module = importlib.import_module(f"{competitions.__name__}.{name}")
    else:
        raise InputError(f"--competition {name}: no such competition; {_suggestion(name)}")
    found = getattr(module, "COMPETITION", None)
    if not isinstance(found, Competition):
        raise InputError(
            f"{name}: defines no COMPETITION, such as COMPETITION = csv_competition(...); see docs/own-competition.md"
        )
    return found


def _suggestion(name: str) -> str:
    """Return what was probably meant: a file of that name here, or the nearest competition."""
    if ":" in name and name.partition(":")[0] in competition_names():
        return f"after the colon there can be {' or '.join(DERIVED)}"
    own = [path for path in (Path(f"{name}.py"), Path(name) / f"{Path(name).name}.py") if path.is_file()]
    if own:
        return f"did you mean --competition {own[0]}?"
    known = competition_names()
    return (
        nearest(name, known)
        if difflib.get_close_matches(name, known)
        else (f"there are {', '.join(known)}; or give the path of a .py file of your own")
    )
