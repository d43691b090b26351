"""Types of the fixtures in conftest.py: the functions that a test calls, and what they return."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Finished(NamedTuple):
    """The result of a command: (exit code, stdout, stderr)."""

    code: int
    out: str
    err: str


class Podium(Protocol):
    """Runs `python -m src.<command> <flags>`."""

    def __call__(self, command: str, *flags: object) -> Finished: ...


class Train(Protocol):
    """Trains fold 0 of a run; returns the fold's folder and the result of the command."""

    def __call__(self, name: str, *flags: object) -> tuple[Path, Finished]: ...


class DrawImage(Protocol):
    """Returns a smooth random image (H, W, 3) uint8."""

    def __call__(self, seed: int, size: tuple[int, int] = (30, 40)) -> np.ndarray: ...


class MakeSvhn(Protocol):
    """Writes input/svhn; returns that folder."""

    def __call__(self, num_train: int = 12, num_val: int = 6, num_test: int = 5, packing: str = "folder") -> Path: ...


class MakeFood11(Protocol):
    """Writes input/food11; returns that folder."""

    def __call__(
        self, num_per_class: int = 4, num_val: int = 4, num_test: int = 12, packing: str = "folder"
    ) -> Path: ...


class MakeLeaves(Protocol):
    """Writes input/leaves and leaves.py; returns the path of leaves.py."""

    def __call__(self, num_train: int = 16, num_test: int = 5) -> Path: ...


class MakeMnist(Protocol):
    """Writes input/mnist or input/fashion_mnist; returns that folder."""

    def __call__(self, num_train: int = 20, num_test: int = 6, packing: str = "gz") -> Path: ...


class MakeCifar10(Protocol):
    """Writes input/cifar10; returns that folder."""

    def __call__(
        self, num_train: int = 20, num_test: int = 6, packing: str = "folder", suffix: str = ".png"
    ) -> Path: ...
