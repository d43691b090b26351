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
    from src.data.prepared import open_prepared
    from src.inference.ensemble import weighted_mean
    from src.inference.submission import answer, make_predictor, write_submission
    from src.runs.run import Run

    set_up_process()
    name = config.name or "+".join(config.run_name)
    check_name("name", name)
    prepared = open_prepared(config)
    predictor = make_predictor(config, prepared.competition, config.tta)
    weight = 1 / len(config.run_name)
    answers = [answer(Run(prepared=prepared, name=run), config.folds, predictor, weight) for run in config.run_name]
    mean = weighted_mean([one.probabilities for one in answers], [1.0] * len(answers))
    facts = {"predicted": predictor.describe(), "runs": [one.facts for one in answers]}
    write_submission(config.submissions_dir / prepared.competition.name, name, mean, prepared, facts)


if __name__ == "__main__":
    cli.run(main, PredictConfig, __doc__)
