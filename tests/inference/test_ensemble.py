"""Predictions are joined by image path: complete, without overlap, in any order of rows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.core.errors import InputError
from src.core.records import write_record
from src.inference.ensemble import OutOfFold, out_of_fold, weighted_mean
from tests.fixtures import DrawImage, MakeFood11, MakeSvhn, Podium
from tests.helpers import replace_oof, run_at
from tests.world import refused

TRAIN = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--epochs", 1)


@pytest.fixture
def run_dir(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    """Return a run of two folds over 12 images."""
    svhn(num_train=8, num_val=4, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert podium("train", *TRAIN, "--fold", "all").code == 0
    return tmp_path / "runs" / "svhn" / "baseline"


def read_oof(run_dir: Path, folds: tuple[int, ...] | None = None, tta: bool = False) -> OutOfFold:
    return out_of_fold(run_at(run_dir), folds, tta)


def change_oof(run_dir: Path, number: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a fold's predictions, as if it had ended with these."""
    fold = run_at(run_dir).open_fold(number)
    replace_oof(fold, {name: change(array) for name, array in fold.oof().items()})


def test_every_labelled_image_has_the_prediction_of_its_own_fold(run_dir: Path) -> None:
    for tta, key in ((False, "probabilities"), (True, "probabilities_tta")):
        oof = read_oof(run_dir, tta=tta)
        assert oof.complete
        assert len(oof.labels) == 12
        rows = dict(zip(oof.labels["image_path"], oof.probabilities, strict=True))
        for fold in run_at(run_dir).trained():
            for path, expected in zip(fold.oof()["image_path"], fold.oof()[key], strict=True):
                assert np.array_equal(rows.pop(path), expected)
        assert not rows


def test_the_order_of_rows_in_a_file_does_not_matter(run_dir: Path) -> None:
    before = read_oof(run_dir)
    change_oof(run_dir, 0, lambda array: array[::-1])
    change_oof(run_dir, 1, lambda array: np.roll(array, 2, axis=0))
    after = read_oof(run_dir)
    assert after.labels.equals(before.labels)
    assert np.array_equal(after.probabilities, before.probabilities)
    assert np.array_equal(after.right, before.right)


def test_a_run_with_a_missing_fold_is_refused_unless_folds_are_given(run_dir: Path) -> None:
    fold = run_at(run_dir).open_fold(1)
    write_record(fold.paths.record, replace(fold.record, result=None))  # as while it is trained
    with pytest.raises(InputError, match=r"fold 1 is not trained to its end.*--folds 0"):
        read_oof(run_dir)
    oof = read_oof(run_dir, folds=(0,))
    assert not oof.complete
    assert set(oof.labels["fold"]) == {0}
    with pytest.raises(InputError, match=r"fold1: is not trained to its end; run python -m src.train .*--fold 1"):
        read_oof(run_dir, folds=(0, 1))
    shutil.rmtree(run_dir / "fold1")
    with pytest.raises(InputError, match=r"fold1.fold.json: not there; run python -m src.train .*--fold 1"):
        read_oof(run_dir, folds=(0, 1))


def test_a_fold_whose_predictions_are_lost_is_refused_and_training_it_makes_them_again(
    run_dir: Path, podium: Podium
) -> None:
    path, before = run_dir / "fold1" / "oof.npz", read_oof(run_dir)
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match=r"fold1.oof.npz: not there; run python -m src.train .*--fold 1"):
        read_oof(run_dir)
    assert podium("train", *TRAIN, "--fold", 1).code == 0
    assert path.read_bytes() == kept
    assert np.array_equal(read_oof(run_dir).probabilities, before.probabilities)


def test_a_fold_with_a_missing_or_foreign_image_is_refused(run_dir: Path) -> None:
    change_oof(run_dir, 0, lambda array: array[1:])
    with pytest.raises(InputError, match="does not hold the images of fold 0"):
        read_oof(run_dir)
    foreign = run_at(run_dir).open_fold(1).oof()["image_path"][0]
    change_oof(
        run_dir, 0, lambda array: np.array([foreign, *array]) if array.ndim == 1 else array[[0, *range(len(array))]]
    )
    with pytest.raises(InputError, match="does not hold the images of fold 0"):
        read_oof(run_dir)


def test_folds_that_share_images_are_refused(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "fold1")
    shutil.copytree(run_dir / "fold0", run_dir / "fold1")
    with pytest.raises(InputError, match=r"fold1.fold.json: belongs to fold 0, not 1"):
        read_oof(run_dir, folds=(0, 1))
    fold = run_at(run_dir).open_fold(0)
    write_record(run_dir / "fold1" / "fold.json", replace(fold.record, fold=1))
    with pytest.raises(InputError, match=r"fold1.oof.npz: does not hold the images of fold 1"):
        read_oof(run_dir, folds=(0, 1))


def test_a_fold_given_twice_counts_once(run_dir: Path) -> None:
    assert len(read_oof(run_dir, folds=(0, 0)).right) == len(read_oof(run_dir, folds=(0,)).right)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:],
    ],
    ids=["truncated", "empty", "a flipped bit"],
)
def test_a_damaged_file_is_refused(run_dir: Path, damage: Callable[[bytes], bytes]) -> None:
    path = run_dir / "fold0" / "oof.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"oof.npz: is damaged"):
        read_oof(run_dir)


def test_a_run_of_another_competition_is_refused(run_dir: Path, food11: MakeFood11, podium: Podium) -> None:
    food11()
    assert podium("prepare", "--competition", "food11", "--num-folds", 2).code == 0
    run_dir.rename(run_dir.parents[1] / "food11" / "baseline")
    code, _, err = podium("evaluate", "--competition", "food11")
    assert code == 2
    assert "baseline/run.json: belongs to competition 'svhn', not 'food11'" in err


def test_test_predictions_are_cached_until_the_weights_change(run_dir: Path, podium: Podium) -> None:
    assert podium("predict").code == 0
    path = run_dir / "fold0" / "test.npz"
    before = path.stat().st_mtime_ns
    assert podium("predict").code == 0
    assert path.stat().st_mtime_ns == before
    assert podium("train", *TRAIN, "--restart", "--seed", 1).code == 0
    assert not path.exists()
    assert podium("predict").code == 0
    one, other = (run_at(run_dir).open_fold(number) for number in (0, 1))
    shutil.copyfile(one.weights_file, other.weights_file)
    other.paths.test.unlink()
    code, _, err = podium("predict")
    assert code == 2
    assert "fold1/last.safetensors: is damaged, or of another training" in err
    other.finish(replace(other.result, weights_sha256=one.result.weights_sha256))
    assert podium("predict").code == 0
    with np.load(path) as kept, np.load(other.paths.test) as again:
        assert np.array_equal(kept["probabilities"], again["probabilities"])


def test_weighted_mean_normalises_the_weights() -> None:
    parts = [np.full((2, 3), value, np.float32) for value in (1, 4)]
    assert weighted_mean(parts, [1, 3]).tolist() == [[3.25] * 3] * 2
    assert weighted_mean(parts, [0.5, 0.5]).dtype == np.float32


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_folds_with_different_settings_are_not_averaged(run_dir: Path, podium: Podium, command: str) -> None:
    fold = run_at(run_dir).open_fold(1)
    run = fold.record.run
    other = replace(run, train=replace(run.train, augment=replace(run.train.augment, rotate=3.0)))
    write_record(fold.paths.record, replace(fold.record, run=other))
    code, _, err = podium(command)
    assert code == 2
    assert "fold1/fold.json: belongs to another run" in err


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_record_edited_by_hand_is_refused(run_dir: Path, podium: Podium, command: str) -> None:
    path = run_dir / "fold1" / "fold.json"
    record = json.loads(path.read_text())
    record["result"]["score"] = 1.0
    path.write_text(json.dumps(record))
    code, _, err = podium(command)
    assert code == 2
    assert "fold1/fold.json: was edited after it was written" in err
    assert "--fold 1" in err


def test_several_images_of_an_id_are_one_answer_in_training_and_in_the_test_set(
    podium: Podium, tmp_path: Path, draw_image: DrawImage
) -> None:
    folder = tmp_path / "input" / "eyes"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
    rows, test_rows = [], []
    for patient in range(12):
        for eye in ("left", "right"):
            cv2.imwrite(str(folder / "train" / f"{patient}_{eye}.png"), draw_image(2 * patient + (eye == "left")))
            rows.append(f"p{patient},{patient}_{eye}.png,{'ill' if patient % 2 else 'well'}")
    for number, name in enumerate(("a", "a", "b")):
        cv2.imwrite(str(folder / "test" / f"{number}.png"), draw_image(100 + number))
        test_rows.append(f"{name},{number}.png")
    (folder / "train.csv").write_text("\n".join(["patient,image,state", *rows, ""]))
    (folder / "test.csv").write_text("\n".join(["patient,image", *test_rows, ""]))
    (folder / "sample_submission.csv").write_text("patient,state\na,ill\nb,ill\n")
    (tmp_path / "eyes.py").write_text(
        "from src.competitions.tables import csv_competition\n\nCOMPETITION = csv_competition(name='eyes', "
        "id_column='patient', label_column='state', image_column='image', test_csv='test.csv', "
        "test_image_column='image', image_size=(32, 32))\n"
    )
    common = ("--competition", tmp_path / "eyes.py")
    assert podium("prepare", *common, "--num-folds", 2).code == 0
    flags = ("--backbone", "test_resnet", "--no-pretrained", "--epochs", 1, "--batch-size", 4)
    assert podium("train", *common, *flags).code == 0
    assert podium("evaluate", *common).code == 0
    scores = json.loads((tmp_path / "runs" / "eyes" / "baseline" / "evaluation" / "scores.json").read_text())
    assert scores["num_images"] == 12
    (snapshot,) = (tmp_path / "runs" / "eyes" / "prepared").glob("*/folds.csv")
    folds = pd.read_csv(snapshot)
    patients = folds["image_path"].str.split("/").str[1].str.split("_").str[0]
    assert (folds["fold"].groupby(patients).nunique() == 1).all()
    for flag in ("--calibrate", "--priors test", "--unsure-only"):
        refused(podium("predict", *common, *flag.split()), f"{flag}: is not supported where several images share")
    assert podium("predict", *common).code == 0
    answers = (tmp_path / "submissions" / "eyes" / "baseline.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in answers] == ["patient", "a", "b"]
