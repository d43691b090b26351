"""What src.doctor --deep reads to the last byte: snapshots, image caches, runs and submissions."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from src.competitions.spec import load_competition
from src.config import DoctorConfig
from src.core.errors import InputError
from src.core.writing import checksum_fits, sha256_of
from src.data.cache import open_cache
from src.data.prepared import command
from src.data.shelf import shelf
from src.data.snapshot import read_snapshot
from src.report.checkup import Finding
from src.runs.run import known_runs, open_run


def _problem(check: Callable[[], object]) -> str:
    """Return the message of the InputError that a check raises, or nothing."""
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def _snapshots(root: Path, prepare: str) -> Iterator[str]:
    for entry in shelf(root):
        if entry.snapshot is None:
            yield _problem(partial(read_snapshot, entry.folder, prepare))
            continue
        for name, digest in entry.snapshot.tables.items():
            path = entry.folder / name
            if not path.is_file() or sha256_of(path) != digest:
                yield f"{path}: is missing or was changed after prepare wrote it; run {prepare}{entry.snapshot.flags}"


def _check_cache(path: Path, prepare: str) -> None:
    open_cache(path.parent, path.stem, prepare).images.check_all()


def _caches(root: Path, prepare: str) -> Iterator[str]:
    for path in sorted((root / "cache").glob("*_*x*_*.json")):
        yield _problem(partial(_check_cache, path, prepare))


def _runs(config: DoctorConfig) -> Iterator[str]:
    for name in known_runs(config):
        try:
            run = open_run(config, name)
        except InputError as error:
            yield str(error)
            continue
        for paths in run.started_folds():
            try:
                fold = run.open_fold(paths.number)
            except InputError as error:
                yield str(error)
                continue
            if paths.state.exists() and not checksum_fits(paths.state):
                yield f"{paths.state}: is damaged; the one saved before it is used"
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
    root, count = config.runs_dir / name, 0
    for text in (
        *_snapshots(root, prepare),
        *_caches(root, prepare),
        *_runs(config),
        *_submissions(config.submissions_dir / name),
    ):
        if text:
            count += 1
            yield Finding("bad", text)
    if not count:
        yield Finding("ok", f"every snapshot, cache, run and submission of {name} is as it was written")
