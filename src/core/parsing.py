"""From a command line to a config; what is wrong with a flag is told in one line instead of tyro's box."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import TypeVar

from src.core.errors import InputError

Config = TypeVar("Config")

WORDS = {  # for what tyro calls the form of a value
    "INT": "a whole number",
    "FLOAT": "a number",
    "INT INT": "two whole numbers",
    "[INT [INT ...]]": "whole numbers",
}
BORDERS = "╭╮╰╯│─"


def parse(kind: type[Config], arguments: Sequence[str], program: str, description: str | None = None) -> Config:
    """Return the config that these arguments describe. Raises InputError, and SystemExit after --help."""
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, args=list(arguments), prog=program, description=description)
    except SystemExit as error:
        if not error.code:
            raise
        told = _mistake(said.getvalue(), list(arguments))
        raise InputError(told if told.endswith("?") else f"{told}; see {program} --help") from error


def _mistake(box: str, arguments: list[str]) -> str:
    """Return what tyro's box says, in one line."""
    box = box.translate(dict.fromkeys(map(ord, BORDERS), " "))
    text = " ".join(line.strip() for line in box.splitlines() if line.strip(" -"))
    if unknown := re.search(r"Unrecognized options: (\S+?)(?:,|$| )", text):
        near = re.search(r"Perhaps you meant: (--[\w.-]+)", text)
        if unknown[1].startswith("--"):
            return f"{unknown[1]}: unknown flag" + (f"; did you mean {near[1]}?" if near else "")
        return f"{unknown[1]!r}: belongs to no flag"
    if choice := re.search(r"invalid choice (.+) for argument '(--[\w.-]+)'\. Expected one of \((.+?)\)", text):
        known = sorted(set(re.findall(r"'([^']+)'", choice[3])) - {"None"})
        return f"{choice[2]} {choice[1].strip(chr(39))}: there are {', '.join(known)}"
    if missing := re.search(r"Missing value for argument '(--[\w.-]+)'", text):
        return f"{missing[1]}: needs a value"
    if wrong := re.search(r"Error parsing (--[\w.-]+):", text):
        flag = wrong[1]
        form = re.search(rf"^\s*{re.escape(flag)} (.+?)\s*$", box.partition("Argument helptext:")[2], re.MULTILINE)
        wanted = form[1].replace("{None}|", "").strip("{}") if form else "another value"
        return f"{flag} {_given(flag, arguments)}: give {WORDS.get(wanted, wanted)}"
    return text


def _given(flag: str, arguments: list[str]) -> str:
    """Return the values that stand behind a flag."""
    names = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    if flag not in names:
        return ""
    at = len(names) - 1 - names[::-1].index(flag)
    if "=" in arguments[at]:
        return arguments[at].partition("=")[2]
    values = []
    for argument in arguments[at + 1 :]:
        if argument.startswith("--"):
            break
        values.append(argument)
    return " ".join(values)
