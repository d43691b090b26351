"""Checking flags, and writing them out again for the commands that messages suggest."""

import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from src.core.errors import InputError

MOST = 2**31  # that a number without a limit of its own may be
RESERVED_NAMES = ("prepared", "cache", "searches", "ledger")  # folders beside the runs; a file beside submissions


def check_range(flag: str, value: float | None, low: float, high: float = MOST) -> None:
    """Raise InputError if a flag's value is outside [low, high]; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        most = "" if high == MOST and value < low else f" and at most {high:g}"
        raise InputError(f"--{flag} {value}: must be at least {low:g}{most}")


def check_name(flag: str, name: str) -> None:
    """Raise InputError if a run's or submission's name is not one plain file name."""
    plain = name.isprintable() and Path(name).name == name and "\\" not in name and not name.startswith(".")
    if not name or not plain:
        raise InputError(f"--{flag} {name!r}: must be one file name, without / or \\ and no dot at its start")
    if name in RESERVED_NAMES:
        raise InputError(f"--{flag} {name!r}: is taken, as are {', '.join(RESERVED_NAMES)}; choose another name")


def check_image_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels. Raises InputError outside of what images are cached and trained at."""
    if min(size) < 8 or max(size) > 4096:
        raise InputError(f"--image-size {size[0]} {size[1]}: height and width must be from 8 to 4096 pixels")
    return size


def check_apart(flag: str, config: Any, *names: str) -> None:
    """Raise InputError if a flag is given together with one of these fields."""
    for name in names:
        if getattr(config, name):
            raise InputError(f"{flag}: cannot be combined with --{name.replace('_', '-')}")


def flags_of(config: Any, *names: str) -> str:
    """Return these fields as flags, or all, if they differ from their defaults, each with a space before it.

    So that a command quoted in a message does what the one that was given did.
    """
    default = flat_values(type(config)())
    values = flat_values(config)
    chosen = [flag for name in names for flag in values if flag.partition(".")[0] == name] if names else values
    return "".join(_flag(flag.replace("_", "-"), values[flag], default[flag]) for flag in chosen)


def flat_values(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return a config's values by name, those of a config inside it as augment.rotate."""
    found: dict[str, Any] = {}
    for item in fields(config):
        value, name = getattr(config, item.name), f"{prefix}{item.name}"
        found |= flat_values(value, f"{name}.") if is_dataclass(value) else {name: value}
    return found


def _flag(name: str, value: Any, default: Any) -> str:
    if value == default:
        return ""
    if isinstance(value, bool):
        return f" --{'' if value else 'no-'}{name}"
    values = value if isinstance(value, tuple) else (value,)
    return f" --{name} {' '.join(shlex.quote(str(item)) for item in values)}"
