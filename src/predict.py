"""Answer the test set with every trained fold and label-safe views; write a validated submission.

    python -m src.predict
    python -m src.predict --competition demo --no-tta          (seconds on a CPU)
    python -m src.predict --unsure-only                        (two to three times as fast, nearly the same score)
    python -m src.predict --minutes 30                         (fewer views and folds if all take longer)
    torchrun --nproc-per-node 2 -m src.predict                 (each process predicts a part)

Writes submissions/<competition>/<run>.csv, .json (how it was made) and .npz (probabilities).
"""

import time
from typing import TYPE_CHECKING

from src.config import PredictConfig
from src.core import cli
from src.core.errors import InputError
from src.core.flags import check_name, check_range

if TYPE_CHECKING:  # src.runs imports torch, and --help should be quick
    from src.runs.run import Run

    Used = tuple[list[Run], tuple[int, ...] | None, bool]  # runs, folds, whether with further views


def main(config: PredictConfig) -> None:
    """Write a submission. Raises InputError for missing or unfit runs, and for answers that would be refused."""
    started = time.monotonic()
    from src.core.runtime import set_up_process
    from src.handin.checked import promise
    from src.inference.adjusting import adjusted, check_adjusting
    from src.inference.deadline import all_answered, answer_in_time, those_that_answered
    from src.inference.ensemble import fitted_rule, mean_out_of_fold
    from src.inference.submission import answer, averaged, make_predictor, same_classes, write_submission
    from src.inference.testset import open_test_set
    from src.inference.unsure import check_unsure_only
    from src.runs.ranks import join_ranks
    from src.runs.run import open_run

    set_up_process()
    world = join_ranks(config)
    world.together(lambda: _check_minutes(config, world.size))
    name = config.name or "+".join(config.run_name)
    world.together(lambda: check_name("name", name))
    if len(set(config.run_name)) < len(config.run_name):
        raise InputError(f"--run-name {' '.join(config.run_name)}: names a run twice; leave one out")
    runs = world.together(lambda: [open_run(config, run) for run in config.run_name])
    competition = world.together(lambda: same_classes(runs))
    world.together(lambda: check_adjusting(config, runs[0].prepared))
    if config.unsure_only:
        world.together(lambda: check_unsure_only(competition, config.tta, config.minutes))
    test = world.on_main(lambda: open_test_set(runs[0].prepared))
    predictor = world.together(lambda: make_predictor(config, competition, world, config.tta))
    facts = {"predicted": predictor.describe()}
    used: Used = (runs, config.folds, config.tta)
    fitting = time.monotonic()
    rule = world.together(lambda: fitted_rule(*used))
    if config.is_adjusting:  # fail now, not after predicting
        world.together(lambda: mean_out_of_fold(*used))
    fitting = time.monotonic() - fitting
    if config.minutes is None:
        answers = [
            answer(run, config.folds, test, predictor, 1 / len(runs), runs_after, config.unsure_only)
            for runs_after, run in zip(reversed(range(len(runs))), runs, strict=True)
        ]
    else:
        until = started + 60 * config.minutes - fitting  # the rule of fewer folds or views is fitted again
        answers, facts["minutes"] = answer_in_time(runs, config.folds, test, predictor, config.minutes, until)
        if not all_answered(facts["minutes"]):
            used = those_that_answered(runs, answers)
            rule = fitted_rule(*used)
    folder = config.submissions_dir / competition.name
    made = averaged(answers)
    if config.is_adjusting:
        known = world.together(lambda: mean_out_of_fold(*used))
        made, facts["adjusted"] = adjusted(config, made, *known)
    world.on_main(lambda: write_submission(folder, name, answers, test, competition, facts, rule, made))
    if config.minutes is None:  # otherwise the time is for answers, and submit works it out
        world.on_main(lambda: promise(config, folder / f"{name}.json"))


def _check_minutes(config: PredictConfig, num_processes: int) -> None:
    check_range("minutes", config.minutes, 0.05, 7 * 24 * 60)
    if config.minutes is None:
        return
    if num_processes > 1:
        raise InputError(f"--minutes {config.minutes:g}: is for one process; leave torchrun out")
    if config.engine == "onnx":
        raise InputError("--minutes and --engine onnx: within a time torch predicts, view by view; leave one out")
    if config.compile == "on":
        raise InputError("--minutes and --compile on: compiling takes minutes itself; give one of them")


if __name__ == "__main__":
    cli.run(main, PredictConfig, __doc__)
