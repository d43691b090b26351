"""Which class, label or head each answer column of a submission holds: by its name, or else as they come."""

import re
from collections.abc import Sequence

from src.core.reading import nfc

MAX_NAMED = 4  # columns in a note


def named_after(columns: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Return which of `names` each column is named after, with the same text around each name, as in class_2.

    Case does not matter if nothing is called alike without it. None if they are not all named so.
    """
    for plain in (nfc, lambda text: nfc(text).casefold()):
        found = _matched([plain(one) for one in columns], [plain(one) for one in names])
        if found:
            return found
    return None


def _matched(columns: list[str], names: list[str]) -> list[int] | None:
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
    """Return which of two classes a column names, None if it names none or both; no_tumor is not about tumor."""
    given, *texts = (re.sub(r"[\s_]+", "_", text.casefold()) for text in (column, *classes))
    named = [
        number for number, text in enumerate(texts) if re.search(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", given)
    ]
    if len(named) == 2 and texts[0] != texts[1] and (texts[0] in texts[1] or texts[1] in texts[0]):
        return int(len(texts[1]) > len(texts[0]))
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
