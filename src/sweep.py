"""Train combinations of settings, seeds and folds, on this machine or a Ray cluster, and compare them.

    python -m src.sweep --set lr=1e-3,2e-3 epochs=12 --seed 0 1 2
    python -m src.sweep --competition demo --set backbone=string_cnn pretrained=False epochs=1 lr=1e-3,3e-3 --fold 0
    python -m src.sweep --one-at-a-time --set epochs=12 mixup=0,0.2 sam=0,0.05 --seed 0 1 2

Each combination is a run of its own, each fold a task: queued, started again if it fails, resumed from its checkpoint.
On a terminal a table shows epoch, score and time left of each. Elsewhere there is a line when a training starts, ends
or is tried again, and a summary every five minutes. Writes the runs and runs/<competition>/<run-name>.csv: score,
spread over seeds, paired difference to the first combination. The best of several is optimistic by as much as was
searched: report it on images that did not choose it.
"""

from src.config import SweepConfig
from src.core import cli
from src.core.flags import check_range


def main(config: SweepConfig) -> None:
    """Run a sweep. Raises InputError for flags that train does not take, and if a training failed for good."""
    from src.competitions.spec import check_has_answers
    from src.core.cluster import check_address
    from src.core.errors import InputError
    from src.core.writing import write_csv
    from src.data.prepared import open_prepared
    from src.sweeping.board import Board
    from src.sweeping.engines import ENGINES
    from src.sweeping.plan import Task, members, parse_train
    from src.sweeping.table import check_same_data, summarise
    from src.training.checks import check_flags

    limits = {"tasks": (1, 2**31), "cores_per_task": (1, 2**31), "gpus_per_task": (0, 1), "retries": (0, 2**31)}
    for name, (low, high) in limits.items():
        check_range(name.replace("_", "-"), getattr(config, name), low, high)
    check_address(config.engine, config.address)
    if config.engine == "ray" and config.tasks:
        raise InputError("--tasks: is of --engine local; a Ray cluster starts as many as have their --cores-per-task")
    prepared = open_prepared(config)
    check_has_answers(prepared.competition)
    chosen, folds = members(config), prepared.fold_numbers(config.fold)
    if len(chosen) == 1 and not config.set:
        raise InputError("--set: give flags of train and the values to compare, as in lr=1e-3,2e-3, or several --seed")
    for member in chosen:
        if member.seed == config.seed[0]:  # the others differ in nothing that is checked
            check_flags(parse_train(member.flags), prepared.competition)
    check_same_data(config, chosen, prepared)
    tasks = [Task(member=member, fold=fold) for member in chosen for fold in folds]
    print(f"{len(chosen)} runs of {len(folds)} folds: {len(tasks)} trainings, engine {config.engine}", flush=True)
    board = Board(tasks, prepared.root, config.redo)
    try:
        failed = ENGINES[config.engine](tasks, config, board)
    finally:
        board.close()
    try:
        check_same_data(config, chosen, prepared)
    except InputError as error:  # prepare ran meanwhile
        print(f"warning: the runs do not compare: {error}")
    table = summarise(config, chosen, {task.member.name for task in failed})
    path = prepared.root / f"{config.run_name}.csv"
    write_csv(path, table)
    print(table.to_string(index=False, float_format="{:.4f}".format, na_rep=""))
    print(f"sweep: {path}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(tasks)} trainings failed, such as {failed[0].name}; see its line above"
        )


if __name__ == "__main__":
    cli.run(main, SweepConfig, __doc__)
