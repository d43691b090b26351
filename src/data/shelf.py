"""All snapshots and caches of a competition: listed, and pruned of what nothing uses."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from src.core.errors import InputError
from src.core.locking import temporary_of
from src.core.records import read_record
from src.data.cache import facts_file, read_cache_record
from src.data.snapshot import Current, Snapshot, read_snapshot


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A snapshot, and the runs and searches that are bound to it."""

    folder: Path
    snapshot: Snapshot | None  # None if it is damaged
    is_current: bool
    runs: list[str]

    @property
    def in_use(self) -> bool:
        return self.is_current or bool(self.runs)

    def describe(self) -> str:
        """Return a line for people."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.folder.stat().st_mtime))
        if self.snapshot is None:
            what = "damaged"
        else:
            train, test = self.snapshot.train, self.snapshot.test
            what = f"{train.num_images:,} labelled and {test.num_images:,} test images{self.snapshot.flags}"
        uses = ["newest"] * self.is_current + self.runs
        return f"{self.folder.name}  {when}  {what}  ({', '.join(uses) or 'unused'})"


def _uses(root: Path) -> dict[str, list[str]]:
    """Return the names of the runs and searches that are bound to each snapshot, also those that are not finished.

    Raises InputError for a record that does not say: its snapshot could not be kept.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(root.glob("searches/*/search.json")):
        try:
            found.setdefault(json.loads(path.read_bytes())["snapshot"], []).append(f"search {path.parent.name}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is damaged, so its snapshot is not known; delete {path.parent}") from error
    runs = [path.parent for pattern in ("*/run.json", "*/restart/run.json") for path in root.glob(pattern)]
    folds = [path.parents[1] for part in ("*", "*/restart") for path in root.glob(f"{part}/fold*/fold.json")]
    for folder in sorted({*runs, *folds}):  # run.json may be lost: the folds say it too
        name, snapshots = folder.relative_to(root).parts[0], set[str]()
        for path in (folder / "run.json", *sorted(folder.glob("fold*/fold.json"))):
            try:
                record = json.loads(path.read_bytes())
                snapshots.add((record["run"] if path.name == "fold.json" else record)["snapshot"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # the others say it too
        if not snapshots:
            raise InputError(
                f"{folder / 'run.json'}: is damaged, and so are its folds: which snapshot they use is not known; train "
                f"{name} with --restart, or delete {folder}"
            )
        for snapshot in snapshots:
            if f"run {name}" not in found.setdefault(snapshot, []):
                found[snapshot].append(f"run {name}")
    return found


def shelf(root: Path, prepare: str) -> list[Entry]:
    """Return the snapshots in runs/<competition>, oldest first. Raises InputError, naming the command `prepare`."""
    uses = _uses(root)
    current = ""
    if (root / "prepared" / "current.json").exists():
        current = read_record(root / "prepared" / "current.json", Current, "", f"run {prepare}").snapshot
    entries = []
    for path in sorted((root / "prepared").glob("*/"), key=lambda path: path.stat().st_mtime):
        if path.name.startswith("."):
            continue
        try:
            snapshot = read_snapshot(path, prepare)
        except InputError:
            snapshot = None
        entries.append(
            Entry(folder=path, snapshot=snapshot, is_current=path.name == current, runs=uses.get(path.name, []))
        )
    return entries


def _delete_unused(root: Path, folder: Path) -> bool:
    """Delete a snapshot unless a run has begun with it meanwhile; return whether it was deleted."""
    hidden = temporary_of(folder)
    os.rename(folder, hidden)
    if folder.name in _uses(root):
        os.rename(hidden, folder)
        return False
    shutil.rmtree(hidden)
    return True


def _is_unused(path: Path, pixels: set[str]) -> bool:
    """Return whether a file is of none of these sets of images, or holds facts that a killed prepare left behind."""
    parts = path.stem.split("_")  # train_64x128_<pixels>, train_64x128_<pixels>_<facts>, duplicates_<pixels>
    if parts[2 if len(parts) > 2 else 1] not in pixels:
        return True
    if path.suffix != ".npz":
        return False
    try:
        name = "_".join(parts[:3])
        return path != facts_file(path.parent, name, read_cache_record(path.parent, name, "").facts)
    except InputError:
        return False  # prepare makes this cache again


def prune(root: Path, prepare: str) -> list[Path]:
    """Delete snapshots that are neither the newest nor used by a run, and caches of none; return what was deleted."""
    gone = [entry.folder for entry in shelf(root, prepare) if not entry.in_use and _delete_unused(root, entry.folder)]
    entries = shelf(root, prepare)
    kept = [entry.snapshot for entry in entries if entry.in_use]
    if None not in kept:  # a damaged snapshot does not say which caches it needs
        pixels = {facts.pixels[:8] for snapshot in kept if snapshot for facts in (snapshot.train, snapshot.test)}
        gone += [path for path in sorted((root / "cache").glob("*_*.*")) if _is_unused(path, pixels)]
    for path in gone:
        if not path.suffix:
            continue  # a snapshot, deleted already
        path.unlink()
    return gone
