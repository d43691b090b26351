"""--restart: the new folds are trained beside the old ones, which stay in use until the new ones are finished.

They lie in runs/<competition>/<run>/restart/. When all that were asked for are trained, the file `complete` says so and
they move to their places; a kill in between is made good by the next training of this run.
"""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.locking import locked
from src.core.records import write_record
from src.core.writing import write_bytes, write_text
from src.data.prepared import open_prepared
from src.data.snapshot import replace_folder
from src.runs.paths import FoldPaths, RunPaths
from src.runs.record import RunRecord, readable_run
from src.runs.run import Run, open_run, run_folder
from src.training.changes import changes, check_unchanged, settings_of


def staged_run(config: TrainConfig) -> Run:
    """Return the run beside the old one that --restart trains, one that was interrupted if the settings are the same.

    With all folds it reads the newest snapshot; with some, the old run's, as the others stay. Raises InputError for
    settings other than those of the folds that stay, and while another process trains the same.
    """
    newest = open_prepared(config)
    main = Run(prepared=newest, name=config.run_name)
    stay = [paths.number for paths in main.paths.started_folds() if config.fold not in ("all", str(paths.number))]
    if stay:
        bound = open_run(config, config.run_name)
        check_unchanged(config, bound, f"--restart of fold {config.fold} alone would leave fold {stay[0]} as it is; ")
        # Begun already: the same caches and network as those of the folds that stay.
        main = bound
    staged = Run(prepared=main.prepared, name=config.run_name, record=main.record, staged=True)
    record = readable_run(staged.folder)
    if record and _is_same(config, record, staged):
        print(f"resuming the --restart that was interrupted: {staged.folder}")
        return replace(staged, record=record)
    finished = [paths.number for paths in staged.paths.started_folds() if paths.oof.exists()]
    if finished:
        raise InputError(
            f"{staged.folder}: an interrupted --restart with other settings has trained fold {finished[0]}; run it "
            "again with its own flags, or delete this folder"
        )
    with ExitStack() as locks:
        for paths in staged.paths.started_folds():
            locks.enter_context(locked(paths.folder, f"is training {paths.folder}"))
        shutil.rmtree(staged.folder, ignore_errors=True)
    return staged


def _is_same(config: TrainConfig, record: RunRecord, staged: Run) -> bool:
    """Return whether an interrupted --restart is the one that is asked for now."""
    if staged.record:  # some folds stay: it must be of their run
        return record == staged.record
    return record.snapshot == staged.prepared.id and not changes(record, *settings_of(config, record))


def finish_restart(config: TrainConfig) -> tuple[int, ...]:
    """Finish a --restart that was killed while it moved its folds; return their numbers, () if there was none.

    Raises InputError if its run.json is lost.
    """
    marker = RunPaths(folder=run_folder(config, config.run_name)).restart.complete
    if not marker.exists():
        return ()
    if readable_run(marker.parent) is None:
        raise InputError(f"{marker.parent}: has lost its run.json; delete this folder")
    moved = _numbers(marker, 1)
    publish(open_run(config, config.run_name, staged=True))
    return moved


def _numbers(marker: Path, line: int) -> tuple[int, ...]:
    """Return the folds in a line of the file `complete`: of the old ones that go, then of the new ones."""
    return tuple(map(int, marker.read_text().split("\n")[line].split()))


def publish(run: Run) -> Run:
    """Move the finished folds of a restarted run to their places; return the run that they belong to.

    If they were trained with other settings or on another snapshot, all old folds are deleted.
    """
    main, staged = replace(run, staged=False), replace(run, staged=True)
    marker = staged.paths.complete
    with ExitStack() as locks:
        locks.enter_context(locked(main.folder, "is replacing the folds of this run", wait=True))
        finished = [paths for paths in staged.paths.started_folds() if staged.open_fold(paths.number).record.result]
        for number in {paths.number for paths in (*finished, *main.paths.started_folds())}:
            locks.enter_context(locked(main.paths.fold(number).folder, f"is training fold{number}"))
        if not marker.exists():  # otherwise a killed process has begun to move
            old = main.paths.started_folds() if readable_run(main.folder) != run.started_record else []
            _check_all_replaced(old, finished, main)
            write_text(marker, "\n".join(" ".join(str(one.number) for one in paths) for paths in (old, finished)))
        for number in _numbers(marker, 0):
            if not main.owns(number):
                shutil.rmtree(main.paths.fold(number).folder, ignore_errors=True)
        if readable_run(main.folder) != run.started_record or not main.paths.record.exists():
            write_record(main.paths.record, run.started_record)
        for paths in finished:
            replace_folder(paths.folder, main.paths.fold(paths.number).folder)
        for copy in filter(Path.is_file, staged.copies):
            write_bytes(main.folder / copy.name, copy.read_bytes())
        for of_old_folds in (main.paths.evaluation, main.paths.export):
            shutil.rmtree(of_old_folds, ignore_errors=True)
        main.paths.crops.unlink(missing_ok=True)
        marker.unlink()
        if not staged.paths.started_folds():
            shutil.rmtree(staged.folder)
    return main


def _check_all_replaced(old: list[FoldPaths], finished: list[FoldPaths], main: Run) -> None:
    """Raise InputError if a fold of the old run would be deleted without a new one in its place."""
    new, known = {paths.number for paths in finished}, main.prepared.fold_numbers("all")
    left = [paths.number for paths in old if paths.number in known and paths.number not in new]
    if left:
        raise InputError(f"{main.folder}: fold {left[0]} is not trained anew yet; use --restart --fold all")
