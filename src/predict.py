"""Answer the test set with every trained fold and label-safe views; write a validated submission.

    python -m src.predict
    python -m src.predict --competition demo --no-tta          (seconds on a CPU)

Writes submissions/<competition>/<run>.csv, .json (how it was made) and .npz (probabilities).
"""

from src.config import PredictConfig
from src.core import cli
from src.core.flags import check_name


def main(config: PredictConfig) -> None:
    """Write a submission. Raises InputError for missing or unfit runs, and for answers that would be refused."""
    from src.core.runtime import set_up_process
    from src.inference.submission import answer, make_predictor, same_classes, write_submission
    from src.inference.testset import open_test_set
    from src.runs.run import open_run

    set_up_process()
    name = config.name or "+".join(config.run_name)
    check_name("name", name)
    runs = [open_run(config, run) for run in config.run_name]
    competition = same_classes(runs)
    test = open_test_set(runs[0].prepared)
    predictor = make_predictor(config, competition, config.tta)
    answers = [answer(run, config.folds, test, predictor, 1 / len(runs)) for run in runs]
    facts = {"predicted": predictor.describe()}
    write_submission(config.submissions_dir / competition.name, name, answers, test, competition, facts)


if __name__ == "__main__":
    cli.run(main, PredictConfig, __doc__)
