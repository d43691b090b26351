"""Which views of test-time augmentation a run averages: those that were named, or those that help out of fold.

They are chosen greedily on all out-of-fold predictions. evaluate's score does not profit from that: each image is
answered by views that were chosen without its part of the groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.data.tta import SIZES, View, sized_view, tta_views
from src.inference.quality import parts_of_groups, quality

AUTO = "auto"


def candidates(wanted: Sequence[str], competition: Competition, size: tuple[int, int]) -> dict[str, View]:
    """Return the views by name, the original first: those that are wanted, or all that keep the label.

    With "auto", these are the ones to choose from: all that keep the label, and others that are named. Raises
    InputError for an unknown name.
    """
    every: dict[str, View] = {**tta_views(competition.hflip_ok, size)}
    safe = every if competition.moves_ok else {"original": every["original"]}
    known = {**safe, **{name: sized_view(name, size) for name in SIZES}}
    for name in wanted:
        if name != AUTO and name not in known:
            raise InputError(f"--views {name}: there are {', '.join(map(repr, [*known, AUTO]))}")
    if not wanted:
        return safe
    names = [*(safe if AUTO in wanted else ["original"]), *wanted]
    return {name: known[name] for name in dict.fromkeys(names) if name != AUTO}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The views that a run answers with, and its out-of-fold predictions by views that were chosen without them."""

    names: tuple[str, ...]
    predicted: np.ndarray  # (N, num_outputs) float32


def _greedy(each: np.ndarray, target: np.ndarray, competition: Competition) -> list[int]:
    """Return the numbers of the views whose mean is best, the original (0) among them; each (V, N, num_outputs)."""
    chosen, total = [0], each[0].astype(np.float64)
    best = quality(each[0], target, competition)
    while True:
        left = [view for view in range(len(each)) if view not in chosen]
        found = [
            quality(((total + each[view]) / (len(chosen) + 1)).astype(np.float32), target, competition) for view in left
        ]
        if not found or max(found) <= best:
            return sorted(chosen)
        best, view = max(found), left[found.index(max(found))]
        chosen.append(view)
        total += each[view]


def choose_views(
    names: Sequence[str], each: np.ndarray, target: np.ndarray, competition: Competition, groups: np.ndarray
) -> Chosen:
    """Return which views help, and their cross-validated mean; each (V, N, num_outputs), groups (N,)."""
    part_of = parts_of_groups(groups)
    mean = np.empty_like(each[0])
    for part in np.unique(part_of):
        inside = part_of == part
        others = ~inside if (~inside).any() else inside
        views = _greedy(each[:, others], target[others], competition)
        mean[inside] = each[views][:, inside].mean(axis=0, dtype=np.float64)
    return Chosen(names=tuple(names[view] for view in _greedy(each, target, competition)), predicted=mean)
