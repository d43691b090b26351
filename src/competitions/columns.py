"""Which class, label or head each answer column of a submission holds: by its name, or else as they come."""

import re
from collections.abc import Sequence

MAX_NAMED = 4  # columns in a note


def named_after(columns: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Return which of `names` each column is named after, with the same text around each name, as in class_2.

    None if they are not all named so.
    """
    if len(columns) != len(names) or len(set(names)) < len(names):
        return None
    for column in columns:
        for found in re.finditer(f"(?={re.escape(names[0])})", column):
            before, after = column[: found.start()], column[found.start() + len(names[0]) :]
            wanted = {f"{before}{name}{after}": number for number, name in enumerate(names)}
            if set(wanted) == set(columns):
                return [wanted[one] for one in columns]
    return None


def of_two(column: str, classes: Sequence[str]) -> int | None:
    """Return which of two classes a column names, None if it names none or both."""
    words = [set(re.split(r"[\W_]+", text.casefold())) for text in (column, *classes)]
    named = [number for number, own in enumerate(words[1:]) if own <= words[0]]
    return named[0] if len(named) == 1 else None


def order_of(columns: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return which of `names` each column holds; of two classes and one column the one that it names, or the second."""
    if len(columns) == 1 and len(names) == 2:
        named = of_two(columns[0], names)
        return [1 if named is None else named]
    return named_after(columns, names) or list(range(len(columns)))


def describe(columns: Sequence[str], names: Sequence[str], what: str) -> str:
    """Return a note of what each column holds, "" if the columns are called exactly so."""
    order = order_of(columns, names)
    held = [names[number] for number in order]
    if list(columns) == held:
        return ""
    if len(columns) == 1:
        swap = f"; for that of {names[1 - order[0]]!r} give classes=({held[0]!r}, {names[1 - order[0]]!r})"
        by_name = of_two(columns[0], names) is not None
        return f"note: column {columns[0]!r} holds the {what} {held[0]!r}{'' if by_name else swap}"
    pairs = [f"{column}: {name!r}" for column, name in zip(columns, held, strict=True)]
    more = ", ..." if len(pairs) > MAX_NAMED else ""
    return f"note: the columns hold the {what} {', '.join(pairs[:MAX_NAMED])}{more}"
