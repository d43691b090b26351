"""What a competition is, and how one is found by name or by file."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import pandas as pd

from src import competitions
from src.core.errors import InputError
from src.core.modules import load_module
from src.core.reading import InputFiles

RESERVED_COLUMNS = frozenset({"image_path", "id", "group", "boxes", "split", "fold", "row"})  # of the tables
HELPERS = frozenset(
    {"arrays", "demo_images", "json_text", "spec", "tables"}
)  # modules of this package that are not competitions


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network: its target column, and the text of each class as a submission writes it."""

    name: str
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class HeadLayout:
    """Which of the network's outputs, (B, num_outputs), belong to which head."""

    widths: tuple[int, ...]  # classes of each head, in order

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first output of each head."""
        return tuple(accumulate(self.widths[:-1], initial=0))

    @property
    def num_outputs(self) -> int:
        return sum(self.widths)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Return (N, width) of each head from values (N, num_outputs)."""
        return np.split(values, self.starts[1:], axis=1)

    def pick(self, values: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Return (N, num_heads): from values (N, num_outputs) that of each head's class id (N, num_heads)."""
        return np.take_along_axis(values, class_ids + np.array(self.starts), axis=1)


@dataclass(frozen=True, kw_only=True)
class Competition:
    """A competition's labels, images and answer format.

    read_train returns a label table: image_path ("folder/name", as `InputFiles.images` lists them), one integer column
    per head, and optionally group (never split over folds), boxes (JSON text: [[left, top, width, height], ...] in
    pixels), split ("train" or "val", the organiser's own) and where ("train.csv, line 3", for messages). read_test
    returns image_path and id, in the submission's order. Both raise InputError for bad labels.
    """

    name: str
    image_size: tuple[int, int]  # (height, width) in pixels that images are cached at
    hflip_ok: bool  # whether a flipped image keeps its label
    read_train: Callable[[InputFiles], pd.DataFrame]
    read_test: Callable[[InputFiles], pd.DataFrame]
    columns: tuple[str, str]  # the submission's id and answer columns
    heads: tuple[Head, ...] = ()
    read_heads: Callable[[InputFiles], tuple[Head, ...]] | None = None  # if the classes are only known from the data
    channels: int = 3  # that a network sees; 1 for grey images
    pad_class: int | None = None  # the class that pads a short string on the right
    class_names: tuple[str, ...] = ()  # for reports, if the submission's text says little
    score_name: str = "accuracy"
    source: str = ""  # where to download the files

    def __post_init__(self) -> None:
        if self.pad_class is not None and len({head.classes for head in self.heads}) > 1:
            raise InputError(f"{self.name}: the heads of a string (it has a pad_class) must all have the same classes")
        for head in self.heads:
            if head.name in RESERVED_COLUMNS:
                raise InputError(f"{self.name}: a head cannot be called {head.name!r}; choose another name")
            if self.pad_class is not None and not 0 <= self.pad_class < head.num_classes:
                raise InputError(f"{self.name}: pad_class {self.pad_class} is not one of {head.num_classes} classes")
        if self.class_names and len(self.heads) == 1 and len(self.class_names) != self.heads[0].num_classes:
            raise InputError(
                f"{self.name}: {len(self.class_names)} class_names for {self.heads[0].num_classes} classes"
            )

    @property
    def targets(self) -> list[str]:
        return [head.name for head in self.heads]

    @cached_property
    def layout(self) -> HeadLayout:
        return HeadLayout(tuple(head.num_classes for head in self.heads))

    def with_heads_of(self, files: InputFiles) -> "Competition":
        """Return this competition with the classes that its data names."""
        return replace(self, heads=self.read_heads(files)) if self.read_heads else self

    def decode(self, class_ids: Sequence[int]) -> str:
        """Return the answer's text for one class id per head; a string ends at its first pad class."""
        ids = list(class_ids)
        if self.pad_class is not None and self.pad_class in ids:
            ids = ids[: ids.index(self.pad_class)]
        return "".join(head.classes[class_id] for head, class_id in zip(self.heads, ids, strict=False))


def competition_names() -> list[str]:
    """Return the names of the competitions in this package."""
    return sorted(module.name for module in pkgutil.iter_modules(competitions.__path__) if module.name not in HELPERS)


def load_competition(name: str) -> Competition:
    """Return the competition of that module name, or the one that a file path/to/mine.py defines as COMPETITION.

    Raises InputError for an unknown name (suggesting the nearest), a missing file, or a file that cannot be used.
    """
    if name.endswith(".py"):
        module = load_module(Path(name), "competition")
    elif name in competition_names():
        module = importlib.import_module(f"{competitions.__name__}.{name}")
    else:
        raise InputError(f"--competition {name}: no such competition; {_suggestion(name)}")
    found = getattr(module, "COMPETITION", None)
    if not isinstance(found, Competition):
        raise InputError(f"{name}: defines no COMPETITION = Competition(...); see CONTRIBUTING.md")
    return found


def _suggestion(name: str) -> str:
    """Return what was probably meant: a file of that name here, or the nearest competition."""
    own = [path for path in (Path(f"{name}.py"), Path(name) / f"{Path(name).name}.py") if path.is_file()]
    if own:
        return f"did you mean --competition {own[0]}?"
    known = competition_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "or give the path of a .py file of your own"
    return f"there are {', '.join(known)}; {hint}"


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
