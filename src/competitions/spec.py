"""What a competition is: its answers, images and files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from src.competitions.checking import check_bands, check_types
from src.competitions.columns import describe, order_of
from src.competitions.layout import KINDS, HeadLayout, Kind
from src.competitions.metric import Metric
from src.core.errors import InputError, nearest, own_code
from src.core.reading import IMAGE_SUFFIXES, InputFiles

Fit = Literal["stretch", "letterbox", "center-crop"]  # how an image of another shape is fitted to the cache's size
# What a submission holds for an id. text: the answer as text in one column; probabilities: of each class, a column for
# each; heads: each head's answer, a column for each; rows: each head's answer, a row for each.
Answer = Literal["text", "probabilities", "heads", "rows"]
ANSWERS = get_args(Answer)
FITS = get_args(Fit)
RESERVED_COLUMNS = frozenset(  # of the tables
    {"image_path", "id", "group", "boxes", "split", "fold", "row", "answer", "weight", "where"}
)


# From targets (B, num_targets), affine matrices (B, 2, 3) from the pixels of the moved image to those of the original,
# and their size (height, width), to the targets of the moved images.
Follow = Callable[[np.ndarray, np.ndarray, tuple[int, int]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network, of one of four kinds.

    class: one of `classes`, each the text that a submission writes; labels: any number of `classes`, each yes or no;
    ordinal: one of `classes`, in ascending order; number: `scale` holds mean and standard deviation of the labels.
    """

    name: str
    classes: tuple[str, ...] = ()
    kind: Kind = "class"
    scale: tuple[float, float] = (0.0, 1.0)
    required: bool = False  # whether every image has at least one of the labels

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not all(isinstance(text, str) for text in self.classes):
            raise InputError(f"{self.name}: classes is {self.classes!r}; give a tuple of texts, such as ('a', 'b')")
        object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def num_outputs(self) -> int:
        """Logits of the network: an ordinal head says of each grade but the last whether the answer is above it."""
        return {"class": self.num_classes, "labels": self.num_classes, "ordinal": self.num_classes - 1, "number": 1}[
            self.kind
        ]

    @property
    def targets(self) -> tuple[str, ...]:
        """Its columns in the label table: of labels one for each, holding 0 or 1."""
        return tuple(f"{self.name}:{text}" for text in self.classes) if self.kind == "labels" else (self.name,)


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
    columns: tuple[str, ...]  # of the submission, see submission_columns
    heads: tuple[Head, ...] = ()
    read_heads: Callable[[InputFiles], tuple[Head, ...]] | None = None  # if the classes are only known from the data
    answer: Answer = "text"
    metric: str | Metric = "accuracy"  # a name that src/metrics.py knows, or your own
    head_weights: tuple[float, ...] = ()  # of each head in the metric; default: all alike
    num_answers: int = 1  # classes in one answer, the most probable first: 5 for MAP@5
    separator: str = " "  # between several labels, or the classes of a list, in one answer
    combine: Literal["mean", "max"] = "mean"  # how predictions of several images of one answer are joined
    none_class: str = ""  # a class that stands for "none of the others"
    resize: Fit = "stretch"
    channels: int = 3  # that a network sees; 1 for grey images; with bands as many as these
    bands: int = 0  # 1-16: that many channels are kept as they are, see src/data/bands.py; 0: ordinary pictures
    depth: Literal[8, 16] = 8  # bits of each channel; 16 only with bands
    pad_class: int | None = None  # the class that pads a short string on the right
    moves_ok: bool = True  # whether an image that is shifted, turned or zoomed keeps its label
    follow: Follow | None = None  # how labels change with such an image; none is moved then unless a flag asks
    pretext: bool = False  # whether it only pretrains a network: its answers are neither scored nor handed in
    class_names: tuple[str, ...] = ()  # for reports, if the submission's text says little
    folder: str = ""  # of its files below input/, if that is not its name
    source: str = ""  # where to download the files
    kaggle: str = ""  # name of its Kaggle competition, as in kaggle.com/c/NAME
    links: str = ""  # name of the organiser's CSV of links to the files
    upload: str = ""  # where a submission is uploaded by hand

    def __post_init__(self) -> None:
        check_types(self)
        check_heads(self)
        check_bands(self)
        if self.bands:
            object.__setattr__(self, "channels", self.bands)

    @property
    def input_folder(self) -> str:
        """The folder of its files below input/."""
        return self.folder or self.name

    @property
    def image_suffixes(self) -> frozenset[str]:
        """The ends of image files' names."""
        return IMAGE_SUFFIXES | {".npy"} if self.bands else IMAGE_SUFFIXES

    @property
    def targets(self) -> list[str]:
        """The label table's target columns."""
        return [column for head in self.heads for column in head.targets]

    @cached_property
    def layout(self) -> HeadLayout:
        widths = tuple(head.num_outputs for head in self.heads)
        return HeadLayout(widths, tuple(head.kind for head in self.heads), tuple(head.scale for head in self.heads))

    @property
    def target_type(self) -> type:
        """The numpy type of targets: integers unless an answer is a number."""
        return np.float32 if "number" in self.layout.kinds else np.int64

    @property
    def is_string(self) -> bool:
        """Whether the heads are the positions of one text."""
        return self.pad_class is not None or (len(self.heads) > 1 and self.answer == "text")

    @property
    def submission_columns(self) -> tuple[str, ...]:
        """The submission's header. `columns` may end with the id: the classes' or the heads' names follow it."""
        if len(self.columns) > 1:
            return self.columns
        named = self.heads if self.answer == "heads" else ()
        return (*self.columns, *(head.name for head in named or ()), *(() if named else self.heads[0].classes))

    @property
    def answer_names(self) -> list[str]:
        """What the answer columns hold, in our order: the heads, or the classes of all heads."""
        if self.answer == "heads":
            return [head.name for head in self.heads]
        return [text for head in self.heads for text in head.classes]

    @property
    def column_order(self) -> list[int]:
        """Which head, or class, each answer column holds: that of its name if all are named so, else as they come."""
        return order_of(self.submission_columns[1:], self.answer_names)

    @property
    def columns_note(self) -> str:
        """A note of what each answer column holds, "" where that is plain."""
        if self.answer not in ("probabilities", "heads") or len(self.answer_names) == 1:
            return ""
        what = "answer of" if self.answer == "heads" else "probability of"
        return describe(self.submission_columns[1:], self.answer_names, what)

    def with_heads_of(self, files: InputFiles) -> "Competition":
        """Return this competition with the classes that its data names."""
        with own_code(f"{self.name}: read_heads"):
            return replace(self, heads=self.read_heads(files)) if self.read_heads else self

    def decode(self, answer: Sequence[Any]) -> str:
        """Return an answer's text, from one value per target; a string ends at its first pad class."""
        values = list(answer)
        if self.pad_class is not None and self.pad_class in values:
            values = values[: values.index(self.pad_class)]
        texts = [
            self.head_text(head, values[start : start + len(head.targets)])
            for head, start in zip(self.heads, self.layout.target_starts, strict=True)
            if start < len(values)
        ]
        return ("" if self.is_string else " ").join(texts)

    def head_text(self, head: Head, values: Sequence[Any]) -> str:
        """Return the text of one head's answer, from its values, one for each of its targets."""
        if head.kind == "labels":
            return self.separator.join(text for text, value in zip(head.classes, values, strict=True) if value)
        return f"{float(values[0]):.9g}" if head.kind == "number" else head.classes[int(values[0])]


def check_has_answers(competition: Competition) -> None:
    """Raise InputError for a competition whose answers mean nothing, such as NAME:instances."""
    if competition.pretext:
        raise InputError(
            f"{competition.name}: its answers are neither scored nor handed in; its networks are for train --weights"
        )


def check_heads(competition: Competition) -> None:
    """Raise InputError for heads that do not fit the competition or each other."""
    name, pad_class = competition.name, competition.pad_class
    kinds = {(head.classes, head.kind) for head in competition.heads}
    # With more columns beside the id, check_answers says what is wrong.
    is_text = {kind for _, kind in kinds} == {"class"} and len(competition.columns) <= 2
    if competition.is_string and (pad_class is not None or is_text) and len(kinds) > 1:
        raise InputError(
            f"{name}: the heads of a string (it has a pad_class, or answer='text') must all have the same classes in "
            "the same order: give each position all characters; answers that are not strings need answer='heads'"
        )
    for what, value, known in (
        ("answer", competition.answer, ANSWERS),
        ("resize", competition.resize, FITS),
        ("combine", competition.combine, ("mean", "max")),
    ):
        if value not in known:
            raise InputError(f"{name}: {what} {value!r} is not known; there are {', '.join(known)}")
    for head in competition.heads:
        if head.kind not in KINDS:
            raise InputError(f"{name}: {head.name} is of kind {head.kind!r}; {nearest(head.kind, KINDS)}")
        if RESERVED_COLUMNS & set(head.targets):
            raise InputError(f"{name}: a head cannot be called {head.name!r}; choose another name")
        if head.kind in ("class", "ordinal") and head.num_classes < 2:
            raise InputError(f"{name}: {head.name} has fewer than two classes; correct the labels or the classes")
        if len(set(head.classes)) < head.num_classes:
            twice = next(text for text in head.classes if head.classes.count(text) > 1)
            raise InputError(f"{name}: {head.name} has the class {twice!r} twice; remove one")
        if pad_class is not None and not 0 <= pad_class < head.num_classes:
            raise InputError(f"{name}: pad_class {pad_class} is not one of {head.num_classes} classes")
    names = [head.name for head in competition.heads]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two heads are called {max(names, key=names.count)!r}; give each a name of its own")
    if competition.class_names and len(competition.heads) == 1:
        _check_names(name, competition.class_names, competition.heads[0])
    weights = competition.head_weights
    if competition.heads and weights and (len(weights) != len(competition.heads) or min(weights) < 0):
        raise InputError(f"{name}: head_weights must be {len(competition.heads)} numbers of 0 or more")


def _check_names(name: str, names: Sequence[str], head: Head) -> None:
    """Raise InputError for class_names that do not name one class each: relabel.csv may write them for classes."""
    classes = head.classes
    if len(names) != len(classes):
        raise InputError(f"{name}: {len(names)} class_names for {len(classes)} classes")
    if head.kind == "labels":  # which relabel.csv does not write by name
        return
    meant = {text: number for number, text in enumerate(classes)}
    for number, text in enumerate(names):
        other = meant.setdefault(text, number)
        if other != number:
            raise InputError(
                f"{name}: {text!r} in class_names would mean class {classes[other]!r} and class {classes[number]!r}; "
                "give each class a name of its own"
            )
