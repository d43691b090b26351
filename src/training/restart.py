"""--restart: the new folds are trained beside the old ones, which stay in use until the new ones are finished.

They lie in runs/<competition>/<run>/restart/. When all that were asked for are trained, the file `complete` says so and
they move to their places; a kill in between is made good by the next training of this run.
"""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from src.config import TrainConfig
from src.core.locking import locked
from src.core.records import write_record
from src.core.writing import write_text
from src.data.prepared import open_prepared
from src.data.snapshot import replace_folder
from src.runs.run import Run, open_run, readable_run
from src.training.changes import changes, check_unchanged, settings_of


def staged_run(config: TrainConfig) -> Run:
    """Return the run beside the old one that --restart trains, one that was interrupted if the settings are the same.

    With all folds it reads the newest snapshot; with some, the old run's, as the others stay. Raises InputError for
    settings other than those of the folds that stay, and while another process trains the same.
    """
    newest = open_prepared(config)
    main = Run(prepared=newest, name=config.run_name)
    stay = [paths.number for paths in main.started_folds() if config.fold not in ("all", str(paths.number))]
    if stay:
        bound = open_run(config, config.run_name)
        check_unchanged(config, bound, f"--restart of fold {config.fold} alone would leave fold {stay[0]} as it is; ")
        main = bound
    staged = Run(prepared=main.prepared, name=config.run_name, staged=True)
    record = readable_run(staged.folder)
    if record and record.snapshot == staged.prepared.id and not changes(record, *settings_of(config, record)):
        print(f"resuming the --restart that was interrupted: {staged.folder}")
        return replace(staged, record=record)
    with ExitStack() as locks:
        for paths in staged.started_folds():
            locks.enter_context(locked(paths.folder, f"is training {paths.folder}"))
        shutil.rmtree(staged.folder, ignore_errors=True)
    return staged


def is_complete(folder: Path) -> bool:
    """Return whether --restart has trained all it was asked for in this run, but was killed while moving it."""
    return (folder / "restart" / "complete").exists()


def publish(run: Run) -> Run:
    """Move the finished folds of a restarted run to their places; return the run that they belong to.

    If they were trained with other settings or on another snapshot, all old folds are deleted.
    """
    main, staged = replace(run, staged=False), replace(run, staged=True)
    marker = staged.folder / "complete"
    with ExitStack() as locks:
        locks.enter_context(locked(main.folder, "is replacing the folds of this run", wait=True))
        finished = [paths for paths in staged.started_folds() if staged.open_fold(paths.number).record.result]
        for number in {paths.number for paths in (*finished, *main.started_folds())}:
            locks.enter_context(locked(main.fold_paths(number).folder, f"is training fold{number}"))
        if not marker.exists():  # otherwise a killed process has begun to move
            old = main.started_folds() if readable_run(main.folder) != run.begun else []
            write_text(marker, " ".join(str(paths.number) for paths in old))
        for number in map(int, marker.read_text().split()):
            if not main.owns(number):
                shutil.rmtree(main.fold_paths(number).folder, ignore_errors=True)
        if readable_run(main.folder) != run.begun or not main.file.exists():
            write_record(main.file, run.begun)
        for paths in finished:
            replace_folder(paths.folder, main.fold_paths(paths.number).folder)
        for copy in staged.folder.glob("*.py"):
            shutil.copyfile(copy, main.folder / copy.name)
        shutil.rmtree(main.evaluation, ignore_errors=True)  # of the old folds
        marker.unlink()
        if not staged.started_folds():
            shutil.rmtree(staged.folder)
    return main
