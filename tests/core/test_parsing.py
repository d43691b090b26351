"""A mistake in a command line is one line that says what to write instead."""

import pytest

from src.config import PrepareConfig, SweepConfig, TrainConfig
from src.core.errors import InputError
from src.core.parsing import parse


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (PrepareConfig, "--image-size 32", "--image-size 32: give two whole numbers"),
        (PrepareConfig, "--image-size 32 x --seed 1", "--image-size 32 x: give two whole numbers"),
        (PrepareConfig, "--resize crop", "--resize crop: there are center-crop, letterbox, stretch"),
        (TrainConfig, "--compettion demo", "--compettion: unknown flag; did you mean --competition?"),
        (TrainConfig, "--log tensorbord", "--log tensorbord: there are mlflow, tensorboard, wandb"),
        (TrainConfig, "--epochs many", "--epochs many: give a whole number"),
        (TrainConfig, "--lr=1e", "--lr 1e: give a number"),
        (TrainConfig, "--augment.rotat 3", "--augment.rotat: unknown flag; did you mean --augment.rotate?"),
        (TrainConfig, "--epochs 3 4", "'4': belongs to no flag"),
        (TrainConfig, "--epochs", "--epochs: needs a value"),
        (SweepConfig, "--seed one", "--seed one: give whole numbers"),
    ],
)
def test_a_mistake_is_one_line(kind: type, arguments: str, said: str) -> None:
    with pytest.raises(InputError) as found:
        parse(kind, arguments.split(), "python -m src.x")
    assert str(found.value) == (said if said.endswith("?") else f"{said}; see python -m src.x --help")


def test_what_is_right_is_parsed_and_help_ends() -> None:
    assert parse(TrainConfig, ["--epochs", "3"], "python -m src.train").epochs == 3
    with pytest.raises(SystemExit) as ended:
        parse(TrainConfig, ["--help"], "python -m src.train", "About.")
    assert not ended.value.code
