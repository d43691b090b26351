"""The one zip that Kaggle makes of a competition's files: read in place, or unpacked if archives lie in it."""

import lzma
import os
import shutil
import zipfile
import zlib
from pathlib import Path

from src.core.errors import InputError
from src.core.reading import ARCHIVES, PARTIAL
from src.core.zips import checked_name


def is_unsettled(folder: Path) -> bool:
    """Return whether `settle` was interrupted while it moved files into `folder`."""
    return _unpacked(folder).is_dir()


def _unpacked(folder: Path) -> Path:
    return folder / PARTIAL / "unpacked"


def settle(bundle: Path, folder: Path) -> list[str]:
    """Move a complete bundle from .partial/ into `folder`; return what the user has to do themselves.

    A bundle of plain files stays zipped, as prepare reads zips in place. One that holds archives is unpacked once, or
    those could not be read. Raises InputError for a broken zip, a name that leaves the folder, and a full disk.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            names = [checked_name(info.filename, str(bundle)) for info in archive.infolist() if not info.is_dir()]
            if not any(name.lower().endswith(ARCHIVES) for name in names):
                os.replace(bundle, folder / bundle.name)
                return []
            unpacked = _unpacked(folder)
            unpacking = unpacked.with_name("unpacking")
            for earlier in (unpacked, unpacking):
                shutil.rmtree(earlier, ignore_errors=True)
            size, free = sum(info.file_size for info in archive.infolist()), shutil.disk_usage(folder).free
            if size > free:
                raise InputError(f"{bundle}: {size:,} bytes to unpack and {free:,} free; make room, run this again")
            archive.extractall(unpacking)
            unpacking.rename(unpacked)  # complete: if interrupted now, the next run continues here
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{bundle}: is not a valid zip ({error}); delete it and run this again") from error
    for path in sorted(unpacked.iterdir()):
        target = folder / path.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(path, target)
    unpacked.rmdir()
    bundle.unlink()
    return [f"{folder / name}: unpack it there (7z x)" for name in names if name.lower().endswith((".7z", ".rar"))]
