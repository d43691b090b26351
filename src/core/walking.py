"""Every file below a folder; symbolic links that lead out of it are refused."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from src.core.errors import InputError


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder, in the order of names."""
    waiting = _entries(root)  # a stack: folders can be nested deeper than Python's calls
    while waiting:
        entry = waiting.pop()
        if entry.is_symlink():
            _check_link(Path(entry.path), root)
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries(entry)
        elif entry.is_file():
            yield entry


def _entries(folder: "Path | os.DirEntry[str]") -> "list[os.DirEntry[str]]":
    """Return a folder's entries, the first name last."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)


def _check_link(link: Path, root: Path) -> None:
    """Raise InputError for a symbolic link that leads out of the folder or to itself."""
    try:
        target = link.resolve(strict=False)
        link.stat()
    except FileNotFoundError:
        return  # the target is gone: the image counts as missing
    except (OSError, RuntimeError) as error:
        raise InputError(f"{link}: is a loop of symbolic links; remove it") from error
    if not target.is_relative_to(root):
        raise InputError(
            f"{link}: is a symbolic link to {target}, outside {root}; remove it and copy the files there, or make "
            f"{root} itself a link to one folder with all files: ln -s FOLDER {shlex.quote(str(root))}"
        )
