"""After kills at random moments, the curves that --log writes are those of log.csv: no epoch twice, none missing."""

import random
import signal
from collections.abc import Callable

import pytest

from tests.conftest import TRAIN
from tests.fixtures import MakeSvhn
from tests.training.test_logs import assert_same_curves, needs, scalars
from tests.trust.conftest import Commands

FLAGS = (*TRAIN, "--competition", "svhn", "--save-every", 0, "--epochs", 6, "--log", "tensorboard", "mlflow")
KILLS, KILLS_PER_RUN = 12, 4


@pytest.mark.slow
@needs("tensorboard")
@needs("mlflow")
@pytest.mark.filterwarnings("default")
def test_curves_of_trainings_killed_at_random_moments_are_whole(
    svhn: MakeSvhn, commands: Commands, figure: Callable[[str], None]
) -> None:
    from mlflow.tracking import MlflowClient

    svhn(num_train=12, num_val=6, num_test=3)
    commands.run("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    commands.run("train", *FLAGS, "--run-name", "straight")
    seconds = commands.run("train", *FLAGS, "--run-name", "again")
    rng, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        flags, runs = ("train", *FLAGS, "--run-name", f"run{runs}"), runs + 1
        for _ in range(KILLS_PER_RUN):
            if commands.killed(rng.uniform(0, seconds), signal.SIGKILL, *flags) == 0:
                break
            kills += 1
        commands.run(*flags)
    client = MlflowClient(f"sqlite:///{commands.cwd}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("svhn")
    assert experiment
    logged = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert len(logged) == len(client.search_runs([experiment.experiment_id])) == runs + 2
    for name in range(runs):
        folder = commands.cwd / "runs" / "svhn" / f"run{name}" / "fold0"
        curves = scalars(folder / "tensorboard")
        assert_same_curves(curves, folder)
        history = {key: client.get_metric_history(logged[f"run{name}/fold0"], key) for key in curves}
        assert_same_curves({key: [(one.step, one.value) for one in found] for key, found in history.items()}, folder)
    figure(f"SIGKILL while logging: {kills} kills in {runs} runs: no row twice, none missing, TensorBoard and MLflow")
