"""What src.doctor --deep reads to the last byte: snapshots, image caches, runs and submissions."""

import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

from src.checkup.findings import Finding
from src.competitions.registry import load_competition
from src.config import DoctorConfig
from src.core.errors import InputError
from src.core.writing import checksum_fits, sha256_of
from src.data.cache import open_cache
from src.data.prepared import command, remote_of
from src.data.remote import Remote
from src.data.shelf import Entry, shelf
from src.data.snapshot import read_snapshot
from src.runs.checkpoint import load_state
from src.runs.run import Run, known_runs, open_run


def _problem(check: Callable[[], object]) -> str:
    """Return the message of the InputError that a check raises, or nothing."""
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def _snapshots(entries: list[Entry], prepare: str) -> Iterator[str]:
    for entry in entries:
        if entry.snapshot is None:
            yield _problem(partial(read_snapshot, entry.folder, prepare))
            continue
        for name, digest in entry.snapshot.tables.items():
            path = entry.folder / name
            if not path.is_file() or sha256_of(path) != digest:
                yield f"{path}: is missing or was changed after prepare wrote it; run {prepare}{entry.snapshot.flags}"


def _check_cache(path: Path, repair: str, remote: Remote | None) -> None:
    open_cache(path.parent, path.stem, repair, remote).images.check_all()


def _caches(root: Path, entries: list[Entry], prepare: str, remote: Remote | None) -> Iterator[str]:
    """Read every cache; the command that makes one again has the flags of a snapshot that it belongs to."""
    flags = {
        facts.pixels[:8]: entry.snapshot.flags
        for entry in entries
        if entry.snapshot
        for facts in (entry.snapshot.train, entry.snapshot.test)
    }
    for path in sorted((root / "cache").glob("*_*x*_*.json")):
        _, size, pixels = path.stem.split("_")
        repair = f"{prepare}{flags.get(pixels, '')} --image-size {size.replace('x', ' ')}"
        yield _problem(partial(_check_cache, path, repair, remote))


def _runs(config: DoctorConfig) -> Iterator[str]:
    for name in known_runs(config):
        try:
            run = open_run(config, name)
        except InputError as error:
            yield str(error)
            continue
        if run.paths.restart.complete.exists():
            yield f"{run.folder}: --restart was stopped while it moved its folds; run that command again"
        if run.started_record.model.backbone.endswith(".py"):
            yield _problem(run.network_file)
        elif run.keeps_weights:
            yield _problem(run.weights_copy)
        for split in ("train", "test"):
            yield _problem(partial(run.prepared.cache, split))
        for path in sorted(run.folder.glob("fold*/")):
            if path.name.removeprefix("fold").isdecimal():
                yield from _fold(run, int(path.name.removeprefix("fold")), path)


def _fold(run: Run, number: int, folder: Path) -> Iterator[str]:
    if number not in run.prepared.fold_numbers("all") or folder.name != f"fold{number}":
        yield f"{folder}: its snapshot has no such fold; delete this folder"
        return
    try:
        fold = run.open_fold(number)
    except InputError as error:
        yield str(error)
        return
    if fold.paths.state.exists():
        with redirect_stdout(StringIO()):  # it says which of the two it uses
            unfit = _problem(partial(load_state, fold.paths.state, fold.origin))
        yield unfit or ("" if checksum_fits(fold.paths.state) else f"{fold.paths.state}: is damaged; resuming uses the "
                        "one saved before it")  # fmt: skip
    if fold.record.result:
        if not fold.weights_fit():
            yield f"{fold.weights_file}: is missing, damaged or of another training; {fold.repair}"
        yield _problem(fold.oof)


def _submissions(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.json")):
        try:
            note = json.loads(path.read_bytes())
            hashes = {".csv": note["sha256"], ".npz": note["probabilities_sha256"]}
        except (ValueError, KeyError, TypeError):
            yield f"{path}: is damaged; run the command that wrote it again"
            continue
        for suffix, digest in hashes.items():
            file = path.with_suffix(suffix)
            if not file.is_file() or sha256_of(file) != digest:
                yield f"{file}: is not the file that {path.name} describes; run the command that wrote it again"


def check_integrity(config: DoctorConfig) -> Iterator[Finding]:
    """Yield what is damaged, edited or mixed up among what was written for a competition."""
    name, prepare = load_competition(config.competition).name, command(config, "prepare")
    root, entries, found = config.runs_dir / name, [], []
    try:
        entries = shelf(root, prepare)
    except InputError as error:
        found.append(str(error))
    found += [*_snapshots(entries, prepare), *_caches(root, entries, prepare, remote_of(config, root)), *_runs(config)]
    found += _submissions(config.submissions_dir / name)
    yield from (Finding("bad", text) for text in found if text)
    if not any(found):
        yield Finding("ok", f"every snapshot, cache, run and submission of {name} is as it was written")
