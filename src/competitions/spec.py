"""What a competition is, and how one is found by name or by file."""

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from src import competitions
from src.core.errors import InputError
from src.core.reading import InputFiles

HELPERS = frozenset({"arrays", "json_text", "spec", "tables"})  # modules of this package that are not competitions


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network: its target column, and the text of each class as a submission writes it."""

    name: str
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class Competition:
    """A competition's labels, images and answer format.

    read_train returns a label table: image_path (as listed by `InputFiles.images`), one integer column per head, and
    optionally group (never split over folds), boxes (JSON text: [[left, top, width, height], ...] in pixels) and
    split ("train" or "val", the organiser's own). read_test returns image_path and id, in the submission's order.
    Both raise InputError for bad labels.
    """

    name: str
    image_size: tuple[int, int]  # (height, width) in pixels that images are cached at
    hflip_ok: bool  # whether a flipped image keeps its label
    read_train: Callable[[InputFiles], pd.DataFrame]
    read_test: Callable[[InputFiles], pd.DataFrame]
    columns: tuple[str, str]  # the submission's id and answer columns
    heads: tuple[Head, ...] = ()
    read_heads: Callable[[InputFiles], tuple[Head, ...]] | None = None  # where the classes are known from the data only
    channels: int = 3  # that a network sees; 1 for grey images
    pad_class: int | None = None  # the class that pads a short string at its right
    class_names: tuple[str, ...] = ()  # for reports, where the submission's text says little
    score_name: str = "accuracy"
    source: str = ""  # where the files can be had

    def __post_init__(self) -> None:
        if self.pad_class is not None and len({head.classes for head in self.heads}) > 1:
            raise InputError(f"{self.name}: the heads of a string (it has a blank) must all have the same classes")

    @property
    def targets(self) -> list[str]:
        return [head.name for head in self.heads]

    def with_heads_of(self, files: InputFiles) -> "Competition":
        """Return this competition with the classes that its data names."""
        return replace(self, heads=self.read_heads(files)) if self.read_heads else self

    def decode(self, class_ids: Sequence[int]) -> str:
        """Return the answer's text for one class id per head; a string ends at its first blank."""
        ids = list(class_ids)
        if self.pad_class is not None and self.pad_class in ids:
            ids = ids[: ids.index(self.pad_class)]
        return "".join(head.classes[class_id] for head, class_id in zip(self.heads, ids, strict=False))


def competition_names() -> list[str]:
    """Return the names of the competitions in this package."""
    return sorted(module.name for module in pkgutil.iter_modules(competitions.__path__) if module.name not in HELPERS)


def load_competition(name: str) -> Competition:
    """Return the competition of that module name, or the one that a file path/to/mine.py defines as COMPETITION.

    Raises InputError for an unknown name (naming the nearest), an absent file, or a file that cannot be used.
    """
    if name.endswith(".py"):
        module = _load_file(Path(name))
    elif name in competition_names():
        module = importlib.import_module(f"{competitions.__name__}.{name}")
    else:
        near = difflib.get_close_matches(name, competition_names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "or give the path of a .py file of your own"
        raise InputError(f"no competition called {name!r}; there are {', '.join(competition_names())}; {hint}")
    found = getattr(module, "COMPETITION", None)
    if not isinstance(found, Competition):
        raise InputError(f"{name}: defines no COMPETITION = Competition(...); see CONTRIBUTING.md")
    return found


def _load_file(path: Path) -> object:
    if not path.is_file():
        raise InputError(f"{path}: no such competition file")
    spec = importlib.util.spec_from_file_location(f"podium_competition_{path.stem}", path.resolve())
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever their code raises is a mistake in their file
        line = getattr(error, "lineno", None)
        raise InputError(f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {error}") from error
    return module


def check_sample(sample: pd.DataFrame, columns: tuple[str, str], name: str) -> pd.Series:
    """Return the ids of a sample submission in order. Raises InputError for a wrong header or repeated ids."""
    if tuple(sample.columns) != columns:
        raise InputError(f"{name}, line 1: the header is {','.join(sample.columns)}, expected {','.join(columns)}")
    ids = sample[columns[0]]
    if len(ids) == 0:
        raise InputError(f"{name}: has no rows; take the organiser's sample submission")
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise InputError(f"{name}, line {repeated.index[0]}: id {repeated.iloc[0]!r} is there twice; remove one")
    return ids
