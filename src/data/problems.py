"""What is wrong with images and labels: problems.csv, groups of duplicates, labels that do not look like classes."""

import difflib
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.records import read_record, write_record
from src.data.cache import ImageCache
from src.data.duplicates import POLICY, exact_duplicates, group_duplicates, near_duplicates

MANY_CLASSES = 0.5  # classes an image: beyond it, labels are hardly classes
MIN_IMAGES = 20  # fewer say nothing about that
MAX_COMPARED = 1000  # names
ZERO_END = "zero end"
MAX_ZERO_ENDS = 0.05  # share of images that end in zeros, beyond which black areas are usual
MAX_TWINS_NAMED = 5  # in a warning
NEARLY_BLACK = 15  # of 255: what 12 bits become when 16 are scaled to 8
LOOKED_AT = 64  # images that tell whether all are that dark
OTHER_SHAPES = (
    'if they are several labels an image, grades or numbers, say so with kind="labels", "ordinal" or "number" '
    "(docs/faq.md, Which answers?)"
)


class Problem(NamedTuple):
    """A row of problems.csv."""

    split: str
    image_path: str
    problem: str
    action: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """duplicates_<pixels>.json: pairs of rows of the label table that look alike, found in minutes and kept."""

    policy: int  # of src.data.duplicates
    pixels: str  # of the cache
    pairs: list[tuple[int, int]]


def reading_problems(split: str, cache: ImageCache, action: str) -> list[Problem]:
    """Return the images of a cache that could not be read, and what is done about them.

    Images that end in zero bytes are listed too, unless there are many: then black areas are usual.
    """
    problems, notes = [], []
    for row in sorted(cache.readings.remarks, key=lambda row: int(cache.numbers[row])):  # in the table's order
        path, (problem, detail) = cache.image_paths[row], cache.readings.remarks[row]
        if problem:
            problems.append(Problem(split, path, problem, action, detail))
        else:
            detail = f"{detail}: a black area, or an interrupted copy"
            notes.append(Problem(split, path, ZERO_END, "kept", detail))
    return problems + notes * (len(notes) <= MAX_ZERO_ENDS * len(cache.readings))


def _conflicts(
    labels: pd.DataFrame, competition: Competition, duplicates: list[list[int]], corrected: frozenset[str]
) -> tuple[set[int], list[Problem]]:
    """Judge exact duplicates: those with different labels are dropped, the others are kept in one group.

    A label that people gave, that of a `corrected` path, wins over other labels. Where each image is a class of its
    own, the first of them is kept.
    """
    dropped: set[int] = set()
    problems: list[Problem] = []
    paths, values = labels["image_path"].tolist(), labels[competition.targets].to_numpy()
    for rows in duplicates:
        given = [row for row in rows if paths[row] in corrected]
        first, *others = given or rows
        same = {row for row, fits in zip(rows, (values[rows] == values[first]).all(axis=1), strict=True) if fits}
        kept = same if same.issuperset(others) else {first} if competition.pretext else set()
        for row in rows:
            if kept and row == first:
                continue
            like = first if row != first else rows[1] if row == rows[0] else rows[0]
            kind = "duplicate" if row in kept or competition.pretext else "conflicting labels"
            detail = f"same pixels as {paths[like]}"
            if row not in kept:
                dropped.add(row)
                detail += ", whose label --relabel gives" * bool(kept and given)
            action = "kept in one group" if row in kept else "skipped"
            problems.append(Problem("train", paths[row], kind, action, detail))
    return dropped, problems


def _near_duplicates(cache: ImageCache, rows: np.ndarray, folder: Path) -> list[tuple[int, int]]:
    """Return pairs of rows of the label table; `rows` are those of the cache.

    They are read from duplicates_<pixels>.json if it is of the same images. Of the same images, not of the same cache:
    groups, and so folds, must not change with --image-size.
    """
    path = folder / f"duplicates_{cache.record.pixels[:8]}.json"
    try:
        kept = read_record(path, Duplicates, "", "")
        if (kept.policy, kept.pixels) == (POLICY, cache.record.pixels):
            return kept.pairs
    except (InputError, OSError):
        pass  # a missing or damaged one is made again
    pairs = near_duplicates(cache.readings.pick(rows), cache.images, rows=rows)
    write_record(path, Duplicates(policy=POLICY, pixels=cache.record.pixels, pairs=pairs))
    return pairs


def usable_labels(
    labels: pd.DataFrame,
    competition: Competition,
    cache: ImageCache,
    folder: Path | None,
    corrected: frozenset[str] = frozenset(),
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the labels of usable images with their `group`, and the problems.

    The pairs found are kept in `folder`; without one no duplicates are searched. The labels of `corrected` paths win
    over those of exact duplicates.
    """
    problems = reading_problems("train", cache, "skipped")
    rows = cache.rows_of(labels["image_path"].tolist())
    usable = cache.readings.readable[rows]
    pairs: list[tuple[int, int]] = []
    if folder:
        dropped, pairs, duplicates = _duplicates(labels, competition, cache, rows, folder, corrected)
        usable[list(dropped)] = False
        problems += duplicates
    if "answer" in labels.columns:  # images that are answered together
        first = {answer: row for row, answer in reversed(list(enumerate(labels["answer"])))}
        pairs = [*pairs, *((first[answer], row) for row, answer in enumerate(labels["answer"]))]
    given = labels["group"].astype(str).tolist() if "group" in labels.columns else None
    group = group_duplicates(given, pairs, len(labels))
    return labels.assign(group=group)[usable].reset_index(drop=True), problems


def _duplicates(
    labels: pd.DataFrame,
    competition: Competition,
    cache: ImageCache,
    rows: np.ndarray,
    folder: Path,
    corrected: frozenset[str],
) -> tuple[set[int], list[tuple[int, int]], list[Problem]]:
    """Return the labels' rows that are dropped, the pairs that belong together, and the problems.

    `rows` are those of the cache, which has another order.
    """
    same_pixels = exact_duplicates(cache.readings.pick(rows))
    dropped, problems = _conflicts(labels, competition, same_pixels, corrected)
    near = _near_duplicates(cache, rows, folder)
    exact = {(same[0], row) for same in same_pixels for row in same[1:]}
    exact_rows = {row for pair in exact for row in pair}
    paths = labels["image_path"].tolist()
    for one, other in near:
        if not (one in exact_rows and other in exact_rows):
            detail = f"looks like {paths[one]}"
            problems.append(Problem("train", paths[other], "near duplicate", "kept in one group", detail))
    return dropped, [*exact, *near], problems


def summary(problems: list[Problem]) -> str:
    """Return how many problems there are of each kind."""
    counts = Counter(f"{problem.split} {problem.problem}" for problem in problems)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _plain(text: str) -> str:
    """Return a class name without what people overlook: spaces around it, case, and the Unicode form."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _twins(competition: Competition) -> list[str]:
    """Return a warning if classes of a head differ in nothing that people see; letters alone may differ in case."""
    for head in competition.heads:
        alike = defaultdict(list)
        for text in head.classes:
            alike[_plain(text) if len(text) > 1 else text].append(text)
        pairs = [texts for texts in alike.values() if len(texts) > 1]
        if pairs:
            shown = "; ".join(" and ".join(map(repr, texts)) for texts in pairs[:MAX_TWINS_NAMED])
            return [
                f"warning: some classes of {head.name} differ only in spaces, case or Unicode form: {shown}; if they "
                "mean the same, correct the labels"
            ]
    return []


def misnamed(problems: list[Problem]) -> list[str]:
    """Return a warning if labelled images are missing while others have no label: their names may not fit."""
    missing = [one.image_path for one in problems if one.split == "train" and one.problem == "missing"]
    unlabelled = [one.image_path for one in problems if one.problem == "unlabelled"]
    if not missing or not unlabelled:
        return []
    near = difflib.get_close_matches(missing[0], unlabelled[:MAX_COMPARED], n=1, cutoff=0)
    return [
        f"warning: labels without an image: {len(missing):,}, such as {missing[0]!r}; images without a label: "
        f"{len(unlabelled):,}, such as {near[0]!r}; if these belong together, correct the names"
    ]


def label_warnings(labels: pd.DataFrame, competition: Competition) -> list[str]:
    """Return warnings about class names that look alike, and labels that are plainly not classes; and what the columns
    of a submission will hold, where that is not plain."""
    note = competition.columns_note
    return _twins(competition) + _not_classes(labels, competition) + [note] * bool(note)


def image_warnings(cache: ImageCache, competition: Competition) -> list[str]:
    """Return a warning if the images are nearly black, as those of 12 bits in files of 16 are."""
    rows = np.flatnonzero(cache.readings.readable)
    rows = rows[:: max(1, len(rows) // LOOKED_AT)]
    if competition.bands or not len(rows) or any(cache.images[row].max() > NEARLY_BLACK for row in rows):
        return []
    return [
        f"warning: the images are nearly black: none of {len(rows)} has a value above {NEARLY_BLACK} of 255; if their "
        "files hold 12 bits in 16, the competition needs bands=1, depth=16 (docs/own-competition.md)"
    ]


def _not_classes(labels: pd.DataFrame, competition: Competition) -> list[str]:
    """Return a warning if the labels of a one-head competition are plainly not classes, or single labels.

    Two signs: nearly as many classes as images (numbers, free text), and texts that are lists of few distinct tags.
    """
    kinds = [head.kind for head in competition.heads]
    if kinds not in (["class"], ["labels"]) or competition.pretext or len(labels) < MIN_IMAGES:
        return []
    texts, is_class = competition.heads[0].classes, kinds == ["class"]
    for separator in (",", ";", "|", " "):
        tags = {tag.strip() for text in texts for tag in text.split(separator)} - {""}
        lists = [text for text in texts if len(text.split(separator)) > 1]
        if len(lists) >= 0.3 * len(texts) and 2 * len(tags) < len(texts):
            shape = OTHER_SHAPES if is_class else f"if they are, give separator={separator!r}"
            return [
                f"warning: the labels look like lists of {len(tags)} tags ({lists[0]!r}), taken here as "
                f"{len(texts):,} {'classes' if is_class else 'labels'}; {shape}"
            ]
    if is_class and len(texts) > MANY_CLASSES * len(labels):
        return [
            f"warning: {len(labels):,} images have {len(texts):,} different labels (such as {texts[0]!r}), nearly one "
            f"each: they do not look like classes; {OTHER_SHAPES}"
        ]
    return []
