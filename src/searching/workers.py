"""Several processes that train trials at once; a trial whose process was killed is continued once, then given up."""

import math
import os
import sys
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import optuna
import torch
from optuna.trial import Trial, TrialState

from src.core.errors import MISTAKE, InputError
from src.core.machine import num_cores
from src.core.signals import Stopped, end_with_parent, stop
from src.searching.study import counts, interrupted, open_study
from src.searching.trials import Search, check_failures, work

TICK = 0.2  # seconds
MAX_KILLS = 2  # of a trial's processes, after which it has failed


def run_workers(search: Search, study: optuna.Study, deadline: float) -> None:
    """Train trials until there are enough or the time is over (`deadline` as time.monotonic()). Raises InputError."""
    config = search.config
    begun = interrupted(study, search.space)
    for trial in begun:
        print(f"trial {trial.number} was being trained when the search ended; it is continued", flush=True)
    cores = config.cores_per_worker
    if config.workers == 1:
        if cores:
            torch.set_num_threads(cores)
        work(search, study, begun, 0, deadline)
        return
    variables = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores or max(1, num_cores() // config.workers))
    )
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)  # read when torch is imported
    try:
        shares = [[trial.number for trial in begun[worker :: config.workers]] for worker in range(config.workers)]
        for place, trial in enumerate(begun):
            trial.set_user_attr("worker", place % config.workers)
        _run(search, study, dict(enumerate(shares)), deadline)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(search: Search, study: optuna.Study, shares: dict[int, list[int]], deadline: float) -> None:
    running = {worker: _start(search, worker, share, deadline) for worker, share in shares.items()}
    idle_deaths: dict[int, int] = {}
    try:
        while running:
            time.sleep(TICK)
            for worker, process in list(running.items()):
                if process.exitcode is None:
                    continue
                del running[worker]
                if process.exitcode == MISTAKE:
                    raise InputError("a worker ended with the mistake above")
                if process.exitcode != 0 and is_more_to_do(search, study):
                    continued = _of_killed(study, worker, process.exitcode, idle_deaths)
                    running[worker] = _start(search, worker, continued, deadline)
    except BaseException:
        for process in running.values():
            process.terminate()  # each saves its step
        for process in running.values():
            process.join()
        raise


def is_more_to_do(search: Search, study: optuna.Study) -> bool:
    """Return whether trials are still to be begun or ended: a process that dies after the last one is not missed."""
    trials = study.get_trials(deepcopy=False)
    return any(trial.state == TrialState.RUNNING for trial in trials) or (
        sum(counts(trial) for trial in trials) < search.config.trials
    )


def _of_killed(study: optuna.Study, worker: int, code: int, idle_deaths: dict[int, int]) -> list[int]:
    """Return the trial of a worker that died, to be continued, unless that happened before.

    `idle_deaths` counts by worker how often it died between two trials since it last had one. Raises InputError if that
    happens again, as it would go on for ever, and if the first trials all failed.
    """
    how, continued = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}", []
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    mine = [trial for trial in running if trial.user_attrs.get("worker") == worker]
    idle_deaths[worker] = 0 if mine else idle_deaths.get(worker, 0) + 1
    if idle_deaths[worker] >= MAX_KILLS:
        raise InputError(
            f"worker {worker}: its process {how} while it trained nothing, {MAX_KILLS} times in a row; the same "
            "command resumes the search"
        )
    for frozen in mine:
        trial, kills = Trial(study, frozen._trial_id), frozen.user_attrs.get("kills", 0) + 1
        trial.set_user_attr("kills", kills)
        if kills < MAX_KILLS:
            print(f"trial {frozen.number}: its process {how}; it is continued", flush=True)
            continued.append(frozen.number)
        else:
            error = f"its process {how}, {kills} times; is there enough memory for --workers?"
            trial.set_user_attr("error", error)
            study.tell(trial, state=TrialState.FAIL)
            print(f"trial {frozen.number}: failed: {error}", flush=True)
            check_failures(study)
    return continued


def _start(search: Search, worker: int, begun: list[int], deadline: float) -> BaseProcess:
    left = deadline - time.monotonic() if math.isfinite(deadline) else math.inf
    # "spawn": a fork would inherit the locks of torch's threads.
    process = get_context("spawn").Process(target=_work, args=(search, worker, begun, left, os.getpid()))
    process.start()
    return process


def _work(search: Search, worker: int, begun: list[int], seconds: float, parent: int) -> None:
    """Do what one process does. Ends with exit code 2 for a mistake, as commands do."""
    end_with_parent(parent)
    study = open_study(search.file, search.maximises, search.config.prune, search.early)
    trials = study.get_trials(deepcopy=False)
    try:
        with stop.handled():
            work(search, study, [Trial(study, trials[number]._trial_id) for number in begun], worker,
                 time.monotonic() + seconds)  # fmt: skip
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
    except Stopped as stopped:
        sys.exit(stopped.code)
