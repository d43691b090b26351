"""Answer the test set with every trained fold and label-safe views; write a validated submission.

    python -m src.predict
    python -m src.predict --competition demo --no-tta          (seconds on a CPU)
    torchrun --nproc-per-node 2 -m src.predict                 (each process predicts a part)

Writes submissions/<competition>/<run>.csv, .json (how it was made) and .npz (probabilities).
"""

from src.config import PredictConfig
from src.core import cli
from src.core.flags import check_name


def main(config: PredictConfig) -> None:
    """Write a submission. Raises InputError for missing or unfit runs, and for answers that would be refused."""
    from src.core.runtime import set_up_process
    from src.inference.submission import answer, fitted_rule, make_predictor, same_classes, write_submission
    from src.inference.testset import open_test_set
    from src.runs.ranks import join_ranks
    from src.runs.run import open_run

    set_up_process()
    world = join_ranks(config)
    name = config.name or "+".join(config.run_name)
    world.together(lambda: check_name("name", name))
    runs = world.together(lambda: [open_run(config, run) for run in config.run_name])
    competition = world.together(lambda: same_classes(runs))
    test = world.on_main(lambda: open_test_set(runs[0].prepared))
    predictor = world.together(lambda: make_predictor(config, competition, world, config.tta))
    answers = [
        answer(run, config.folds, test, predictor, 1 / len(runs), runs_after)
        for runs_after, run in zip(reversed(range(len(runs))), runs, strict=True)
    ]
    rule = world.together(lambda: fitted_rule(runs, config.folds, config.tta))
    folder, facts = config.submissions_dir / competition.name, {"predicted": predictor.describe()}
    world.on_main(lambda: write_submission(folder, name, answers, test, competition, facts, rule))


if __name__ == "__main__":
    cli.run(main, PredictConfig, __doc__)
