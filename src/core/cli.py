"""The shell around every command: flags in, one clear line and exit code 2 for a user's mistake.

A command's file imports only this and its config at the top, and the rest inside `main`: `--help` needs no torch, and a
missing package is reported in one line.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

from src.core.errors import MISTAKE, InputError
from src.core.parsing import parse
from src.core.signals import Stopped, stop

REQUIRED = (
    "albumentations", "cv2", "numpy", "pandas", "PIL", "pydantic", "safetensors", "scipy", "sklearn", "timm", "torch",
    "torchvision", "tqdm", "tyro", "xxhash",
)  # fmt: skip
Config = TypeVar("Config")


def check_environment() -> None:
    """Raise InputError if Python is too old or a required package is missing; imports none of them."""
    if sys.version_info < (3, 11):  # noqa: UP036
        raise InputError(f"{sys.executable} is Python {sys.version.split()[0]}: 3.11 or newer is needed")
    missing = [name for name in REQUIRED if not find_spec(name)]
    if missing:
        raise InputError(
            f"{sys.executable} lacks {', '.join(missing)}; run '{sys.executable} -m pip install -r requirements.txt', "
            "or activate the environment that has them (source .venv/bin/activate)"
        )


def check_arguments(arguments: list[str]) -> None:
    """Raise InputError for an argument that is not UTF-8: no file that is written could hold it."""
    for argument in arguments:
        if argument.encode(errors="ignore").decode() != argument:
            raise InputError(f"argument {os.fsencode(argument)!r} is not UTF-8; give another name")


def arguments_for(config_class: type, arguments: list[str]) -> list[str]:
    """Return the arguments as the config's flags: values before any flag are those of its field FIRST, and its ALIASES
    are other spellings of flags."""
    first, aliases = getattr(config_class, "FIRST", None), getattr(config_class, "ALIASES", {})
    if first and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{first.replace('_', '-')}", *arguments]
    return [aliases.get(argument, argument) for argument in arguments]


def run(main: Callable[[Config], object], config_class: type[Config], doc: str | None) -> None:
    """Parse flags into `config_class` and call `main`.

    Exit codes: 0 done, 2 a mistake in flags or data (one line on stderr), 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    module = sys.modules[main.__module__].__spec__
    program = f"python -m {module.name}" if module else sys.argv[0]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot print must not end a training
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_environment()
        check_arguments(sys.argv[1:])
        with stop.handled():
            main(parse(config_class, arguments_for(config_class, sys.argv[1:]), program, doc))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; a closed stdout must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # A full disk, a read-only folder, a file that vanished: not a bug of ours.
        what = f"{error.filename}: " if error.filename else ""
        hint = "; make room and run the same command again: what was saved is kept" * (error.errno == errno.ENOSPC)
        print(f"error: {what}{error.strerror or error}{hint}", file=sys.stderr)
        sys.exit(MISTAKE)
    except Stopped as stopped:
        print("stopped; run the same command again: what is done is not done again", file=sys.stderr)
        sys.exit(stopped.code)
