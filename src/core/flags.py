"""Checking flags, and writing them out again for the commands that messages suggest."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.core.errors import InputError

RESERVED_NAMES = ("prepared", "cache")  # folders beside the runs


def check_range(flag: str, value: float | None, low: float, high: float = 2**31) -> None:
    """Raise InputError if a flag's value is outside [low, high]; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        raise InputError(f"--{flag} {value}: must be at least {low:g} and at most {high:g}")


def check_name(flag: str, name: str) -> None:
    """Raise InputError if a run's or submission's name is not one plain file name."""
    if not name or Path(name).name != name or "\\" in name or name.startswith(".") or name in RESERVED_NAMES:
        raise InputError(f"--{flag} {name!r}: must be a plain name, other than {' and '.join(RESERVED_NAMES)}")


def check_image_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels. Raises InputError outside of what images are cached and trained at."""
    if min(size) < 8 or max(size) > 4096:
        raise InputError(f"--image-size {size[0]} {size[1]}: height and width must be from 8 to 4096 pixels")
    return size


def flags_of(config: Any, *names: str) -> str:
    """Return these fields as flags if they differ from their defaults, each with a space before it.

    So that a command quoted in a message does what the one that was given did.
    """
    default, text = asdict(type(config)()), ""
    for name in names:
        value = getattr(config, name)
        if value != default[name] and value is not None:
            values = value if isinstance(value, tuple) else (value,)
            text += f" --{name.replace('_', '-')} {' '.join(shlex.quote(str(item)) for item in values)}"
    return text
