"""The kinds of answers, and which of a network's outputs and targets belong to which head."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, get_args

import numpy as np

Kind = Literal["class", "labels", "ordinal", "number"]
KINDS = get_args(Kind)


@dataclass(frozen=True)
class HeadLayout:
    """Which of the network's outputs, (B, num_outputs), and which targets, (B, num_targets), belong to which head."""

    widths: tuple[int, ...]  # outputs of each head, in order
    kinds: tuple[Kind, ...] = ()  # of each head; default: all are classes
    scales: tuple[tuple[float, float], ...] = ()  # of each head, see Head

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", self.kinds or ("class",) * len(self.widths))
        object.__setattr__(self, "scales", self.scales or ((0.0, 1.0),) * len(self.widths))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first output of each head."""
        return tuple(accumulate(self.widths[:-1], initial=0))

    @cached_property
    def target_widths(self) -> tuple[int, ...]:
        """Target columns of each head."""
        return tuple(width if kind == "labels" else 1 for width, kind in zip(self.widths, self.kinds, strict=True))

    @cached_property
    def target_starts(self) -> tuple[int, ...]:
        """The first target of each head."""
        return tuple(accumulate(self.target_widths[:-1], initial=0))

    @property
    def num_outputs(self) -> int:
        return sum(self.widths)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Return (N, width) of each head from values (N, num_outputs)."""
        return np.split(values, self.starts[1:], axis=1)

    def split_targets(self, target: np.ndarray) -> list[np.ndarray]:
        """Return (N, target width) of each head from targets (N, num_targets)."""
        return np.split(target, self.target_starts[1:], axis=1)
