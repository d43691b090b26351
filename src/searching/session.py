"""A search from its first trial to its report."""

from pathlib import Path

import optuna
from optuna.trial import TrialState

from src.competitions.spec import check_has_answers
from src.config import SearchConfig
from src.core.errors import InputError
from src.core.locking import delete_stale
from src.core.writing import write_text
from src.metrics import direction
from src.searching.inner import make_inner
from src.searching.page import render_search
from src.searching.record import SearchRecord, add_report, begin, searched
from src.searching.report import best_config, compare, lines, train_command
from src.searching.space import check_space, read_space
from src.searching.study import best_trial, open_study, repair
from src.searching.trials import Search, settings_text
from src.searching.workers import run_workers


def run_search(config: SearchConfig, folder: Path, deadline: float) -> None:
    """Train trials until there are enough or the time is over, then report. Raises InputError."""
    prepared = searched(folder / "search.json", config)
    check_has_answers(prepared.competition)
    space = read_space(config.space)
    check_space(space, config, prepared.competition)
    inner = make_inner(config, prepared, folder)
    record = begin(folder / "search.json", config, prepared, inner.prepared.id)
    search = Search(config=config, folder=folder, space=space, inner=inner)
    delete_stale(folder)
    repair(search.file)
    study = open_study(search.file, search.maximises, config.prune, search.early)
    print(_beginning(search, study), f"their output is in {folder / 'logs'}", sep="; ", flush=True)
    try:
        run_workers(search, study, deadline)
    finally:
        _write_page(search, study, record)
    best = best_trial(study)
    if best is None:
        raise InputError(f"{folder}: no trial was trained to its end; see the lines above, or give more --trials")
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    print(
        f"{states.count(TrialState.COMPLETE)} trials finished, {states.count(TrialState.PRUNED)} pruned, "
        f"{states.count(TrialState.FAIL)} failed; best {best.value:.4f} on the inner folds "
        f"(trial {best.number}: {settings_text(best)})"
    )
    if config.report:
        report = compare(search, prepared, best)
        record = add_report(folder / "search.json", record, report)
        assert best.value is not None
        print("\n".join(lines(report, len(record.reports), best.value, direction(prepared.competition))))
        _write_page(search, study, record)
    print(f"search: {folder / 'search.html'}")
    print(f"all folds with the best settings:\n  {train_command(best_config(search, best))}")


def _beginning(search: Search, study: optuna.Study) -> str:
    config, num_images = search.config, len(search.inner.prepared.labels)
    done = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    resumed = f"; {done} are done" if done else ""
    outside = "" if search.space.defaults() is not None else "; train's defaults lie outside the space"
    return (
        f"{config.trials} trials of {', '.join(search.space.searched)} on the {num_images:,} images outside fold "
        f"{config.report_fold}, scored on {config.scored_folds} of {search.inner.num_folds} inner folds"
        f"{outside}{resumed}"
    )


def _write_page(search: Search, study: optuna.Study, record: SearchRecord) -> None:
    best = best_trial(study)
    command = train_command(best_config(search, best)) if best else ""
    write_text(search.folder / "search.html", render_search(search, study, record, command))
