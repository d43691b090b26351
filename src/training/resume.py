"""Resume: find the run and the fold that a command continues."""

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import check_name
from src.core.world import World
from src.data.prepared import open_prepared
from src.runs.checkpoint import has_state, load_state
from src.runs.fold import TrainedFold, origin_of
from src.runs.record import readable_run
from src.runs.run import Run, open_run, run_folder
from src.training.changes import changes, check_unchanged, settings_of
from src.training.restart import finish_restart, staged_run


def run_to_train(config: TrainConfig, world: World | None = None) -> Run:
    """Return the run that a command trains: one that has begun, with the snapshot it is bound to, or a new one.

    Raises InputError for settings other than those that the run began with.
    """
    check_name("run-name", config.run_name)
    world = world or World()
    moved = world.on_main(lambda: finish_restart(config))
    return world.main_first(lambda: _run_to_train(config, moved))


def _run_to_train(config: TrainConfig, moved: tuple[int, ...]) -> Run:
    """Return it; `moved` are the folds of a --restart that was finished just now."""
    folder = run_folder(config, config.run_name)
    if config.restart and moved:
        run = open_run(config, config.run_name)
        wanted = run.prepared.fold_numbers(config.fold)
        if set(wanted) <= set(moved) and not changes(run.started_record, *settings_of(config, run.record)):
            return run
    known = readable_run(folder)
    if config.restart:
        return staged_run(config)
    if known is None:
        if list(folder.glob("fold*/fold.json")):
            raise InputError(f"{folder / 'run.json'}: is damaged, and so are its folds; use --restart --fold all")
        return Run(prepared=open_prepared(config), name=config.run_name)
    run = open_run(config, config.run_name)
    check_unchanged(config, run)
    return run.begin(run.started_record)


def lost_record(config: TrainConfig, run: Run, number: int) -> str:
    """Return "lost" or "damaged" if so is fold.json, but the checkpoint beside it is of this run and fold."""
    paths = run.paths.fold(number)
    if run.record is None or not has_state(paths.state) or config.freeze_backbone:
        return ""
    try:
        run.open_fold(number)
        return ""
    except InputError as error:
        try:
            load_state(paths.state, origin_of(run.started_record, number))
        except InputError:
            if not paths.record.exists():
                return ""
            why = str(error).split("; run ")[0]
            raise InputError(
                f"{why}, and its checkpoint cannot be used either; run {run.train_command(number)} --restart"
            ) from error
        return "damaged" if paths.record.exists() else "lost"


def saved_fold(config: TrainConfig, run: Run, number: int) -> TrainedFold | None:
    """Return the fold to resume or to repair, or None if there is nothing to resume. Raises InputError."""
    paths = run.paths.fold(number)
    fold = run.open_fold(number) if run.record and paths.record.exists() else None
    if fold and fold.record.result and fold.weights_fit():
        return fold  # nothing is left to train, even if its checkpoint was deleted
    if fold and fold.record.result and fold.weights_file == paths.best:
        raise InputError(f"{paths.best}: is missing or damaged; {fold.repair}")
    # A linear probe trains in a minute; its checkpoint does not hold the backbone that resuming would need.
    if fold and has_state(paths.state) and not config.freeze_backbone:
        return fold
    if fold and fold.record.result and not config.freeze_backbone:
        raise InputError(
            f"{fold.weights_file}: is missing or damaged, and no checkpoint is left to restore it from; run "
            f"{fold.train_command} --restart"
        )
    if config.resume:
        raise InputError(f"--resume: {paths.folder} holds no checkpoint to resume from; leave the flag out")
    return None
