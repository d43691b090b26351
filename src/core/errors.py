"""The error of every mistake in data, flags or a user's own code, and what was probably meant."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MISTAKE = 2  # exit code of a command that an InputError or a full disk ended: trying again would not help


class InputError(ValueError):
    """A mistake in data or flags. Its text is one line: the file, row and value, and what to do."""


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Run a user's own code. Raises InputError, which begins with `what`, for anything that it raises."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # any error of theirs is a mistake in their file, not a fault of ours
        raise InputError(f"{what}: {type(error).__name__}: {error}") from error


def nearest(name: str, known: Sequence[str]) -> str:
    """Return what was probably meant, or all that there is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
