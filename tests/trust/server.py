"""Run commands in forked processes, which tests can kill, without importing torch for each.

Reads one JSON line per command ({"argv", "cwd", "tag", "slow"}) and writes its output to cwd/out<tag> and err<tag>.
Prints the process id, then, when the process has ended, its exit code (negative: the signal that killed it). Each
training step appends a byte to the file `steps`.
"""

import importlib
import json
import os
import shutil
import sys
import time
import traceback
import typing
from typing import Any

import torch

from src.core import cli
from src.training import trainer as loop

COMMANDS = ("prepare", "train", "predict", "evaluate", "blend", "doctor")


def _count_steps() -> None:
    step = loop.train_step
    file = os.open("steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def counted(*given: Any, **options: Any) -> torch.Tensor:
        result = step(*given, **options)
        os.write(file, b".")
        return result

    loop.train_step = counted


def _slow_down() -> None:
    """Make every rename and deletion take longer, so that kills hit the moments between them."""
    for module, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
        real = getattr(module, name)

        def slow(*given: Any, real: Any = real, **options: Any) -> Any:
            time.sleep(0.02)
            return real(*given, **options)

        setattr(module, name, slow)


def _run(argv: list[str], cwd: str, tag: str, slow: bool) -> None:
    os.setsid()
    os.chdir(cwd)
    for number, name in ((1, f"out{tag}"), (2, f"err{tag}")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    _count_steps()
    if slow:
        _slow_down()
    module = importlib.import_module(f"src.{argv[0]}")
    sys.argv = argv
    try:
        cli.run(module.main, typing.get_type_hints(module.main)["config"], module.__doc__)
    except SystemExit as end:
        sys.exit(end.code)


def main() -> None:
    """Serve until stdin is closed."""
    for name in COMMANDS:
        importlib.import_module(f"src.{name}")
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                _run(job["argv"], job["cwd"], job["tag"], job["slow"])
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
