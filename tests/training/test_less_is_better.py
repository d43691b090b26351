"""A metric of which less is better, from the best epoch to the blend."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from src.inference.blending import select
from src.inference.predictor import Predictor
from src.training import trainer
from tests.drawing import write_image
from tests.fixtures import DrawImage, Podium
from tests.helpers import prepared_at

FILE = '''"""A number."""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="ages", id_column="id", label_column="age", kind="number", metric="rmse", image_size=(24, 32)
)
'''
FLAGS = ("--competition", "ages.py")
SETTINGS = ("--backbone", "svhn_cnn", "--no-pretrained", "--batch-size", 4, "--lr", 0.01)


@pytest.fixture
def ages(tmp_path: Path, draw_image: DrawImage, podium: Podium) -> Path:
    """Return a folder with two prepared folds of a number."""
    folder = tmp_path / "input" / "ages"
    for number in range(10):
        write_image(folder / "train" / f"{number}.png", draw_image(300 + number))
    write_image(folder / "test" / "11.png", draw_image(400))
    (folder / "train.csv").write_text(
        "\n".join(["id,age", *(f"{number},{20 + 3 * number}" for number in range(10)), ""])
    )
    (folder / "sample_submission.csv").write_text("id,age\n11,0\n")
    (tmp_path / "ages.py").write_text(FILE)
    assert podium("prepare", *FLAGS, "--num-folds", 2).code == 0
    return tmp_path


def test_the_smallest_error_is_the_best_epoch_also_after_a_kill(
    ages: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, kept, save_model = [3.0, 1.0, 2.0, 4.0, 0.5], [], trainer.save_model
    folder = ages / "runs" / "ages" / "run" / "fold0"

    def score(*_: object, **__: object) -> float:
        with open(folder / "log.csv") as stream:
            epoch = len(list(csv.DictReader(stream)))
        if epoch == 2 and not was_killed:
            was_killed.append(True)
            raise SystemExit(137)
        return scores[epoch]

    def noted(path: Path, network: object) -> None:
        kept.append(path.name)
        save_model(path, network)  # type: ignore[arg-type]

    was_killed: list[bool] = []
    monkeypatch.setattr(Predictor, "score", lambda *_, **__: score() if (folder / "log.csv").exists() else scores[0])
    monkeypatch.setattr(trainer, "save_model", noted)
    flags = (
        *FLAGS,
        *SETTINGS,
        "--run-name",
        "run",
        "--fold",
        0,
        "--epochs",
        5,
        "--early-stopping",
        2,
        "--keep",
        "best",
    )
    assert podium("train", *flags).code == 137
    ended = podium("train", *flags)
    assert "resumes after epoch 2, step 0" in ended.out
    assert kept == ["best.safetensors", "best.safetensors", "last.safetensors"]  # of epochs 1 and 2; stopped after 4
    with open(folder / "log.csv") as stream:
        assert [float(row["score"]) for row in csv.DictReader(stream)] == scores[:4]


def test_a_blend_of_errors_is_told_and_is_no_worse(ages: Path, podium: Podium) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        ended = podium("train", *FLAGS, *SETTINGS, "--epochs", 2, "--run-name", name, "--seed", seed)
        assert ended.code == 0, ended.err
    ended = podium("evaluate", *FLAGS, "--run-name", "one")
    assert "(less is better)" in ended.out
    assert "(mean absolute error)" in ended.out
    ended = podium("blend", *FLAGS, "--run-name", "one", "other", "--name", "both", "--outer-folds", 2)
    assert ended.code == 0, ended.err
    assert "(less is better)" in ended.out
    singles = [float(line.split()[1]) for line in ended.out.splitlines() if line.endswith("out of fold")]
    blend = json.loads((ages / "submissions" / "ages" / "both.json").read_text())["blend"]
    assert blend["fitted_score"] <= min(singles) + 1e-4


def test_the_run_with_the_smaller_error_is_chosen(ages: Path) -> None:
    competition = prepared_at(ages / "runs" / "ages", "ages.py").competition
    target = np.arange(20, dtype=np.float32)[:, None]
    near, far = target + 1, target + 5

    def make(parts: list[np.ndarray]) -> list[float]:
        found: list[float] = select(parts, target, competition, 3).tolist()
        return found

    assert make([far, near]) == [0, 1]
    assert make([near, far]) == [1, 0]
    balanced = make([target + 2, target - 2])
    assert balanced == [0.5, 0.5]
