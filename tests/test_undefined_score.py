"""A metric that is not defined for some images: every command goes on, and says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.core.csv_text import parse_csv
from src.runs.record import FoldResult, training_summary
from tests.drawing import write_image
from tests.fixtures import DrawImage, Podium
from tests.helpers import run_at

FILE = '''"""Yes or no, by the area under the ROC curve."""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="moles",
    id_column="image",
    label_column="target",
    answer="probabilities",
    columns=("image", "target"),
    metric="roc_auc",
    group_column="patient",
    image_size=(24, 32),
)
'''
FLAGS = ("--competition", "moles.py")
SETTINGS = ("--backbone", "svhn_cnn", "--no-pretrained", "--batch-size", 4, "--epochs", 1)


@pytest.fixture
def moles(tmp_path: Path, draw_image: DrawImage, podium: Podium) -> Path:
    """Return a folder with two prepared folds, of one class each."""
    folder = tmp_path / "input" / "moles"
    for number in range(8):
        write_image(folder / "train" / f"{number}.png", draw_image(100 + number))
    write_image(folder / "test" / "9.png", draw_image(200))
    rows = [f"{number},{number % 2},patient{number % 2}" for number in range(8)]
    (folder / "train.csv").write_text("\n".join(["image,target,patient", *rows, ""]))
    (folder / "sample_submission.csv").write_text("image,target\n9,0\n")
    (tmp_path / "moles.py").write_text(FILE)
    assert podium("prepare", *FLAGS, "--num-folds", 2).code == 0
    return tmp_path


def test_without_a_defined_score_no_epoch_is_the_best(moles: Path, podium: Podium) -> None:
    flags = (*FLAGS, *SETTINGS, "--fold", 0, "--epochs", 3, "--early-stopping", 1, "--keep", "best")
    assert podium("train", *flags).code == 0
    folder = moles / "runs" / "moles" / "baseline" / "fold0"
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 3
    assert (folder / "best.safetensors").read_bytes() == (folder / "last.safetensors").read_bytes()


def test_folds_of_one_class_are_trained_evaluated_predicted_and_blended(moles: Path, podium: Podium) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        ended = podium("train", *FLAGS, *SETTINGS, "--run-name", name, "--seed", seed, "--keep", "best")
        assert ended.code == 0, ended.err
        assert "fold 0: score nan, with test-time views nan" in ended.out
        assert "no fold's score is defined" in ended.out
    root = moles / "runs" / "moles"
    assert json.loads((root / "one" / "fold0" / "fold.json").read_text())["result"]["score"] is None
    assert np.isnan(run_at(root / "one", FLAGS[1]).trained()[0].result.score_tta)
    assert "already trained, score nan" in podium("train", *FLAGS, *SETTINGS, "--run-name", "one", "--keep", "best").out
    ended = podium("evaluate", *FLAGS, "--run-name", "one")
    assert "out-of-fold roc auc: 0." in ended.out
    assert "folds 0: undefined, 1: undefined" in ended.out
    assert "undefined" in (root / "one" / "evaluation" / "report.html").read_text()
    ended = podium("evaluate", *FLAGS, "--run-name", "one", "--folds", 0)
    assert "out-of-fold roc auc: not defined for these 4 images" in ended.out
    page = (root / "one" / "evaluation" / "report.html").read_text()
    assert "there is no interval" in page
    assert "nan" not in page.split("<script>")[0].lower()  # before Chart.js
    assert podium("predict", *FLAGS, "--run-name", "one").code == 0
    for flag in ("--calibrate", "--unsure-only"):
        ended = podium("predict", *FLAGS, "--run-name", "one", "--folds", 0, flag)
        assert ended.code == 0, ended.err
    ended = podium("blend", *FLAGS, "--run-name", "one", "other", "--name", "both", "--outer-folds", 2)
    assert ended.code == 0, ended.err
    assert "note: the epochs of one, other were chosen on these very images" in ended.out
    note = json.loads((moles / "submissions" / "moles" / "both.json").read_text())
    assert [fold["score"] for run in note["runs"] for fold in run["folds"]] == [None] * (2 * len(note["runs"]))


@pytest.mark.slow
def test_a_sweep_over_a_fold_of_one_class_has_a_table(moles: Path, podium: Podium) -> None:
    values = ("backbone=svhn_cnn", "pretrained=False", "batch-size=4", "epochs=1", "lr=1e-3,2e-3")
    ended = podium("sweep", *FLAGS, "--set", *values, "--fold", 0)
    assert ended.code == 0, ended.err
    table = parse_csv((moles / "runs" / "moles" / "sweep.csv").read_bytes(), "sweep.csv")
    assert table["score"].tolist() == ["", ""]


def test_the_mean_over_folds_leaves_out_undefined_scores() -> None:
    def result(score: float) -> FoldResult:
        return FoldResult(
            score=score, score_tta=score, epochs=1, seconds=1.0, images_per_second=1.0, weights_sha256="", oof_sha256=""
        )

    summary = training_summary([result(0.25), result(float("nan")), result(0.75)], 3.0, Path("run"))
    assert "2 folds: 0.5000 ± 0.3536 (standard deviation over folds); of 1 more the score is not defined" in summary
