"""The error of every mistake in data or flags."""


class InputError(ValueError):
    """A mistake in data or flags. Its text is one line: the file, row and value, and what to do."""
