"""Whether a competition, as somebody wrote it, can be what it says: the types of its fields, its sample submission."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING

import pandas as pd

from src.competitions.metric import Metric
from src.core.errors import InputError, nearest

if TYPE_CHECKING:
    from src.competitions.spec import Competition

MAX_BANDS = 16
SWITCHES = ("hflip_ok", "moves_ok", "pretext")
TEXTS = ("separator", "none_class", "folder", "source", "kaggle", "links", "upload")
TUPLES = ("image_size", "columns", "heads", "head_weights", "class_names")


def check_options(name: str, options: Mapping[str, object], function: Callable[..., object]) -> None:
    """Raise InputError for a keyword that neither `function`, which was called with them, nor Competition has."""
    from src.competitions.spec import Competition

    known = [*signature(function).parameters, *(item.name for item in fields(Competition))]
    for option in options:
        if option not in known:
            raise InputError(f"{name}: unknown keyword {option!r}; {nearest(option, known)}")


def check_types(competition: "Competition") -> None:
    """Turn lists into tuples. Raises InputError for fields of another type, naming the field and what it must be."""
    name = competition.name
    for field in TUPLES:
        value = getattr(competition, field)
        if not isinstance(value, list | tuple):
            raise InputError(f"{name}: {field} is {value!r}; give a tuple, such as {_example(field)}")
        object.__setattr__(competition, field, tuple(value))
    size, weights, number = competition.image_size, competition.head_weights, competition.num_answers
    if len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise InputError(f"{name}: image_size is {size!r}; give (height, width) in pixels, such as (64, 128)")
    if not all(isinstance(weight, int | float) for weight in weights) or (weights and not sum(weights) > 0):
        raise InputError(f"{name}: head_weights is {weights!r}; give a number for each head, one of them above 0")
    if not isinstance(number, int) or number < 1:
        raise InputError(f"{name}: num_answers is {number!r}; give a whole number of 1 or more")
    for field in SWITCHES:
        if not isinstance(getattr(competition, field), bool):
            raise InputError(f"{name}: {field} is {getattr(competition, field)!r}; give True or False")
    for field in TEXTS:
        if not isinstance(getattr(competition, field), str):
            raise InputError(f"{name}: {field} is {getattr(competition, field)!r}; give a text, in quotes")
    if competition.channels not in (1, 3) and not competition.bands:
        raise InputError(f"{name}: channels is {competition.channels!r}; give 3, or 1 for grey images, or bands")
    if not isinstance(competition.metric, str | Metric):
        raise InputError(f"{name}: metric is {competition.metric!r}; give a name, or Metric(name=..., ...)")


def _example(field: str) -> str:
    return {"image_size": "(64, 128)", "head_weights": "(2.0, 1.0)", "heads": "(Head(...),)"}.get(field, "('a', 'b')")


def check_bands(competition: "Competition") -> None:
    """Raise InputError for bands or a depth that cannot be kept."""
    name, bands, depth = competition.name, competition.bands, competition.depth
    if not 0 <= bands <= MAX_BANDS or depth not in (8, 16):
        raise InputError(f"{name}: bands={bands}, depth={depth}: 1 to {MAX_BANDS} bands of 8 or 16 bits can be kept")
    if depth == 16 and not bands:
        raise InputError(f"{name}: depth=16 needs bands, how many channels are kept: 1 for grey images")
    if bands and competition.channels not in (3, bands):
        raise InputError(f"{name}: channels={competition.channels} with bands={bands}: leave channels out")


def check_sample(sample: pd.DataFrame, columns: tuple[str, ...], name: str) -> pd.Series:
    """Return the ids of a sample submission in order. Raises InputError for a wrong header or repeated ids."""
    if tuple(sample.columns) != columns:
        other_order = ""
        if set(sample.columns) == set(columns):
            is_id_first = sample.columns[0] == columns[0]
            other_order = f"; give columns={tuple(sample.columns)}" if is_id_first else "; the id must come first"
        elif len(columns) == 3 and len(sample.columns) == 2 and sample.columns[0] == columns[0]:
            other_order = f"; if it holds the probability of one of the two, give columns={tuple(sample.columns)}"
        raise InputError(
            f"{name}, line 1: the header is {','.join(sample.columns)}, expected {','.join(columns)}{other_order}"
        )
    ids = sample[columns[0]]
    if len(ids) == 0:
        raise InputError(f"{name}: has no rows; take the organiser's sample submission")
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise InputError(f"{name}, line {repeated.index[0]}: id {repeated.iloc[0]!r} appears twice; remove one")
    return ids
