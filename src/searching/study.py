"""Optuna's study of a search, kept in one file that a kill leaves readable.

study.log is Optuna's journal: a line for each thing that happens. A kill in the middle of a line leaves a torn one,
which is cut off when the search is opened again.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from src.core.locking import locked
from src.searching.space import Space

NUM_RANDOM = 8  # trials that are drawn at random before Optuna's sampler learns from them
NUM_BEFORE_PRUNING = 4  # trials that are trained to their end before any is pruned
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def repair(file: Path) -> None:
    """Cut off a torn last line, and remove the lock of a process that was killed; no other process may have it open."""
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if not file.exists():
        return
    data = file.read_bytes()
    if not data.endswith(b"\n"):
        with open(file, "rb+") as stream:
            stream.truncate(data.rfind(b"\n") + 1)


def open_study(file: Path, maximise: bool, prune: bool, early: int) -> optuna.Study:
    """Open the study, or begin it. No trial is pruned in its first `early` steps; see Search.early."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:  # Optuna prunes from this step on, and the first step is 1
        pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_BEFORE_PRUNING, n_warmup_steps=early + 1)
    return optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(file))),
        direction="maximize" if maximise else "minimize",
        pruner=pruner,
        load_if_exists=True,
    )


def ask(study: optuna.Study, space: Space, file: Path, limit: int, seed: int, worker: int) -> Trial | None:
    """Return the next trial with its values drawn, or None if there are `limit`.

    What is drawn depends on the seed, the worker and the trials before, not on how often the search was interrupted.
    """
    with locked(file.with_name("ask"), "is choosing settings", wait=True):
        before = [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]
        if len(before) >= limit:
            return None
        if not before and (defaults := space.defaults()) is not None:
            study.enqueue_trial(defaults, skip_if_exists=True)
        words = np.random.SeedSequence((seed, len(before), worker)).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=NUM_RANDOM, seed=int(words[0]))
        trial = study.ask(fixed_distributions=space.searched)
        trial.set_user_attr("worker", worker)
        return trial


def counts(trial: FrozenTrial) -> bool:
    """Return whether a trial is one of --trials: not if it was killed before its values were known, or only waits."""
    return trial.state in (*FINISHED, TrialState.RUNNING) and "lost" not in trial.user_attrs


def interrupted(study: optuna.Study, space: Space) -> list[Trial]:
    """Return the trials that were being trained when the search ended, to be continued under their own numbers.

    One that was killed before all its values were drawn is marked as failed.
    """
    found = []
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        trial = Trial(study, frozen._trial_id)
        if set(frozen.params) == set(space.searched):
            found.append(trial)
        else:
            trial.set_user_attr("lost", "was killed before its values were drawn")
            study.tell(trial, state=TrialState.FAIL)
    return found


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the finished trial with the best score, the first of equals, or None."""
    with suppress(ValueError):
        return study.best_trial
    return None


def same_settings(study: optuna.Study, params: dict[str, Any], number: int) -> FrozenTrial | None:
    """Return an earlier finished trial with the same values, or None."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.params == params and trial.number != number:
            return trial
    return None
