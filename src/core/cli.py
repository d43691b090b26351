"""The shell around every command: flags in, one clear line and exit code 2 for a user's mistake."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from src.core.errors import InputError
from src.core.signals import Stopped, stop

Config = TypeVar("Config")


def run(main: Callable[[Config], object], config_class: type[Config], doc: str | None) -> None:
    """Parse flags into `config_class` and call `main`.

    Exit codes: 0 done, 2 a mistake in flags or data (one line on stderr), 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    module = sys.modules[main.__module__].__spec__
    program = f"python -m {module.name}" if module else None
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot write must not end a training
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with stop.handled():
            main(tyro.cli(config_class, description=doc, prog=program))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Who reads our lines (head, less) has seen enough; a closed stdout must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # A full disk, a folder that may not be written, a file that went away: no defect of ours.
        what = f"{error.filename}: " if error.filename else ""
        hint = "; make room and give the same command again: what was saved is kept" * (error.errno == errno.ENOSPC)
        print(f"error: {what}{error.strerror or error}{hint}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print("stopped; give the same command again: what is done is not done again", file=sys.stderr)
        sys.exit(stopped.code)
