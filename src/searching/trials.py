"""A trial: one training with drawn settings on the inner folds, pruned if it lags behind; and a worker's loop."""

import math
import shutil
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from src.config import SearchConfig, TrainConfig
from src.core.errors import InputError
from src.core.progress import minutes, silenced
from src.core.runtime import choose_compute, explained, set_up_process
from src.metrics import metric_of
from src.searching.inner import Inner
from src.searching.space import Space, as_text
from src.searching.study import ask, best_trial, counts, same_settings
from src.sweeping.plan import parse_train, path_flags
from src.training.checks import check_flags
from src.training.fold import train_fold
from src.training.resume import run_to_train

EARLY = 0.25  # share of the epochs in which no trial is pruned: the learning rate still rises
TENTHS = 10  # steps of a training at which trials of different lengths are compared
MAX_FAILURES = 3  # failed trials without a finished one, after which the search ends


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a worker needs to train trials."""

    config: SearchConfig
    folder: Path
    space: Space
    inner: Inner

    @property
    def file(self) -> Path:
        return self.folder / "study.log"

    @property
    def varies_epochs(self) -> bool:
        return "epochs" in self.space.searched

    @property
    def maximises(self) -> bool:
        return metric_of(self.inner.prepared.competition).greater_is_better

    @property
    def early(self) -> int:
        """Steps in which no trial is pruned: epochs, or tenths if trials differ in epochs."""
        return math.ceil(EARLY * (TENTHS if self.varies_epochs else self.train_config({}, "x").epochs))

    def train_config(self, params: dict[str, Any], run_name: str) -> TrainConfig:
        """Return the config of a training with these values. Raises InputError."""
        return parse_train([*path_flags(self.inner.paths), "--run-name", run_name, *self.space.flags(params)])

    def trial_folder(self, number: int) -> Path:
        return self.inner.prepared.root / f"trial-{number}"


def train_trial(search: Search, trial: Trial) -> float:
    """Train a trial and return its score, the mean over the inner folds, with test-time views.

    Raises TrialPruned if it lags behind, InputError if these settings cannot be trained.
    """
    config = search.train_config(trial.params, search.trial_folder(trial.number).name)
    competition = search.inner.prepared.competition
    check_flags(config, competition)
    known = dict(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def on_epoch(history: list[dict[str, float]]) -> bool:
        step = len(history)
        if search.varies_epochs:
            step = TENTHS * len(history) // config.epochs
        score = history[-1]["score"]
        if step in known or not step or math.isnan(score):
            return False
        trial.report(score, step)
        known[step] = score
        if trial.should_prune():
            raise optuna.TrialPruned
        return False

    run, compute, scores = run_to_train(config), choose_compute(config.device, config.precision), []
    with explained(config.deterministic):
        for number in search.inner.folds:
            first = number == search.inner.folds[0]
            run, result = train_fold(config, run, [number], compute, on_epoch if first else lambda history: False)
            scores.append(result.score_tta)
    score = float(np.mean(scores))
    if math.isnan(score):
        raise InputError("the metric is not defined for the images of an inner fold")
    return score


def run_trial(search: Search, study: optuna.Study, trial: Trial, deadline: float = math.inf) -> None:
    """Train a trial, tell the study, print a line, and delete its weights. Its output is kept in logs/."""
    started, log = time.monotonic(), search.folder / "logs" / f"trial-{trial.number}.txt"
    log.parent.mkdir(exist_ok=True)
    earlier, state = same_settings(study, trial.params, trial.number), TrialState.COMPLETE
    score: float | None = None
    try:
        if earlier is not None:
            trial.set_user_attr("same_as", earlier.number)
            score = earlier.value
        else:  # the bars of several workers would be drawn over each other
            with open(log, "a", encoding="utf-8") as stream, redirect_stdout(stream), silenced():
                score = train_trial(search, trial)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except InputError as error:
        trial.set_user_attr("error", str(error))
        state = TrialState.FAIL
    seconds = time.monotonic() - started
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, score, state)
    shutil.rmtree(search.trial_folder(trial.number), ignore_errors=True)
    told = study.get_trials(deepcopy=False)[trial.number]
    print(
        f"trial {trial.number}: {outcome(told)}{_best(study)}; {settings_text(told)}; {minutes(seconds)}; "
        f"{time_left(search, study, deadline - time.monotonic())}",
        flush=True,
    )


def time_left(search: Search, study: optuna.Study, seconds: float) -> str:
    """Return how many trials are done, and about how long the search still takes, by the mean of its trials so far.

    Trials begin only in the next `seconds`. The two trainings at the end take as long as a trial that was not pruned
    does for one of its folds.
    """
    config = search.config
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished() and counts(trial)]
    timed = [trial for trial in ended if "seconds" in trial.user_attrs]  # not those whose process was killed
    whole = [trial for trial in timed if trial.state == TrialState.COMPLETE and "same_as" not in trial.user_attrs]
    each, full = (sum(trial.user_attrs["seconds"] for trial in some) / max(1, len(some)) for some in (timed, whole))
    num_left = max(0, config.trials - len(ended))
    left = max(0.0, min(seconds, each * num_left / min(config.workers, max(1, num_left))))
    if config.report:
        left += 2 * full / config.scored_folds
    return f"{len(ended)} of {config.trials} done" + (f", about {minutes(left)} left" if left else "")


def outcome(trial: FrozenTrial) -> str:
    """Return how a trial ended, in words."""
    if trial.state == TrialState.COMPLETE:
        same = trial.user_attrs.get("same_as")
        return f"{trial.value:.4f}" + (f" (the settings of trial {same})" if same is not None else "")
    if trial.state == TrialState.PRUNED:
        steps = trial.intermediate_values
        return f"pruned at {steps[max(steps)]:.4f}" if steps else "pruned"
    if trial.state == TrialState.FAIL:
        return f"failed: {trial.user_attrs.get('error') or trial.user_attrs.get('lost', 'was killed')}"
    return "is being trained"


def settings_text(trial: FrozenTrial) -> str:
    """Return the drawn values, as on a command line."""
    return " ".join(f"{name}={as_text(value)}" for name, value in trial.params.items())


def _best(study: optuna.Study) -> str:
    best = best_trial(study)
    return f", best {best.value:.4f} (trial {best.number})" if best else ""


def work(search: Search, study: optuna.Study, begun: list[Trial], worker: int, deadline: float) -> None:
    """Continue the trials that have begun, then train new ones until there are --trials or the time is over.

    Raises InputError if the first trials all fail: then it is not the drawn values.
    """
    set_up_process()
    for trial in begun:
        run_trial(search, study, trial, deadline)
    while time.monotonic() < deadline:
        asked = ask(study, search.space, search.file, search.config.trials, search.config.seed, worker)
        if asked is None:
            return
        run_trial(search, study, asked, deadline)
        check_failures(study)


def check_failures(study: optuna.Study) -> None:
    """Raise InputError if the first trials have all failed: then it is not the drawn values."""
    ended = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
    if len(ended) >= MAX_FAILURES and all(one.state == TrialState.FAIL for one in ended):
        raise InputError(f"all of the first {len(ended)} trials failed, the last: {outcome(ended[-1])}")
