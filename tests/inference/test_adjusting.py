"""predict and blend with --calibrate and --priors test: what they print, write, and refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.competitions.registry import load_competition
from src.competitions.spec import Competition
from src.config import Adjusting
from src.core.errors import InputError
from src.data.prepared import Prepared
from src.inference.adjusting import check_adjusting
from tests.fixtures import MakeFood11, Podium
from tests.helpers import replace_oof, run_at, table_at

TRAIN = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 24, 32, "--batch-size", 4, "--epochs", 1)
COMPETITION = ("--competition", "food11")
NUM_CLASSES = 11


@pytest.fixture
def folder(food11: MakeFood11, podium: Podium, tmp_path: Path) -> Path:
    """Return a folder with a run "one", right for two images of three and always sure."""
    food11(num_per_class=8, num_val=8, num_test=30)
    assert podium("prepare", *COMPETITION, "--num-folds", 2).code == 0
    assert podium("train", *COMPETITION, *TRAIN, "--fold", "all", "--run-name", "one").code == 0
    labels = table_at(tmp_path / "runs" / "food11", "labels").set_index("image_path")["category"]
    for fold in run_at(tmp_path / "runs" / "food11" / "one").trained():
        paths = fold.oof()["image_path"]
        truth, rows = labels.loc[paths.tolist()].to_numpy(), np.arange(len(paths))
        made = np.full((len(paths), NUM_CLASSES), 0.001, np.float32)
        made[rows, np.where(rows % 3 == 0, (truth + 1) % NUM_CLASSES, truth)] = 0.99
        replace_oof(fold, {"image_path": paths, "probabilities": made, "probabilities_tta": made})
    return tmp_path


def probabilities(folder: Path, name: str) -> np.ndarray:
    with np.load(folder / "submissions" / "food11" / f"{name}.npz") as kept:
        return np.array(kept["probabilities"])


def test_predict_calibrates_and_says_what_it_gained(folder: Path, podium: Podium) -> None:
    assert podium("predict", *COMPETITION, "--run-name", "one", "--name", "plain").code == 0
    code, out, err = podium("predict", *COMPETITION, "--run-name", "one", "--name", "calibrated", "--calibrate")
    assert code == 0, err
    assert "calibrated: log loss " in out
    note = json.loads((folder / "submissions/food11/calibrated.json").read_text())["adjusted"]
    assert note["log_loss"][1] < note["log_loss"][0]
    assert note["slopes"][0] < 1
    plain, calibrated = probabilities(folder, "plain"), probabilities(folder, "calibrated")
    assert np.abs(plain - calibrated).max() > 1e-3
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-5)


def test_runs_that_were_scored_on_different_images_are_refused_before_predicting(
    folder: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert podium("train", *COMPETITION, *TRAIN, "--fold", 0, "--run-name", "two").code == 0
    monkeypatch.setattr("src.inference.deadline.answer_in_time", None)
    runs = ("--run-name", "one", "two", "--minutes", 5)
    code, _, err = podium("predict", *COMPETITION, *runs, "--calibrate")
    assert (code, "were scored on different images" in err) == (2, True)


def test_predict_and_blend_correct_for_the_classes_of_the_test_set(folder: Path, podium: Podium) -> None:
    shutil.copytree(folder / "runs/food11/one", folder / "runs/food11/two")
    for command in (("predict", "--run-name", "one"), ("blend", "--run-name", "one", "two", "--stack")):
        code, out, err = podium(*command, *COMPETITION, "--priors", "test", "--name", "made")
        assert code == 0, err
        assert "class shares of the test set differ" in out
        head = json.loads((folder / "submissions/food11/made.json").read_text())["adjusted"]["priors"][0]
        assert head["corrected"] == (head["distance"] > head["chance"])
        assert sum(head["estimated"]) == pytest.approx(1)
        np.testing.assert_allclose(probabilities(folder, "made").sum(axis=1), 1, atol=1e-5)
    code, out, err = podium("submit", *COMPETITION, "--name", "made", "--by-hand")
    assert code == 0, err


def prepared(competition: Competition) -> Prepared:
    """Return what check_adjusting asks a snapshot for."""
    return SimpleNamespace(competition=competition, labels=pd.DataFrame())  # type: ignore[return-value]


def test_flags_that_do_nothing_are_refused() -> None:
    food = load_competition("food11")
    number = replace(food, heads=(replace(food.heads[0], kind="number", classes=(), scale=(0.0, 1.0)),), class_names=())
    for config, competition, message in (
        (Adjusting(calibrate=True), number, "--calibrate: food11 has no head of kind class"),
        (Adjusting(priors="test"), replace(food, none_class="3"), "--priors test: food11 fits a cut for 3"),
    ):
        with pytest.raises(InputError, match=message):
            check_adjusting(config, prepared(competition))
    check_adjusting(Adjusting(), prepared(number))
