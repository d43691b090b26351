"""Every example of a competition goes from the organiser's files to a submission that the organiser accepts."""

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from examples.competitions import make_data
from examples.competitions.make_data import MAKERS, MakeDataConfig, Maker
from src.competitions.registry import load_competition
from src.competitions.spec import Competition
from src.core import cli
from src.core.csv_text import parse_csv
from tests.fixtures import Podium
from tests.helpers import prepared_at, table_at

FOLDER = Path(make_data.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "make_data.py")
MAX_LINES = 30
MAX_SECONDS = 0.5  # to import one
NUM_TRAIN, NUM_TEST = 40, 10
SCORE_NAMES = {
    "aptos2019": "quadratic kappa",
    "bengaliai_cv19": "mean recall",
    "captcha": "string accuracy",
    "cassava_leaf_disease": "accuracy",
    "dog_breed_identification": "log loss",
    "human_protein_atlas": "macro f1",
    "humpback_whale": "map@5",
    "plant_pathology_2020": "roc auc",
    "siim_isic_melanoma": "roc auc",
    "state_farm": "log loss",
}
NUM_GROUPS = {"siim_isic_melanoma": 14, "state_farm": 4}  # patients, drivers
SLOW = ("bengaliai_cv19",)  # parquet files of 32,333 columns: 10 s
each_name = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SCORE_NAMES]
)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few resamples make an interval, and a few candidates a rule: as many as usual take seconds."""
    monkeypatch.setattr("src.report.intervals.resampled.__defaults__", (20, 0))
    monkeypatch.setattr("src.inference.rules.NUM_CANDIDATES", 6)


def walk(podium: Podium, tmp_path: Path, path: Path) -> tuple[Competition, dict[str, object], pd.DataFrame]:
    """Run the four commands; return the competition, what scores.json holds, and the submission."""
    flags, name = ("--competition", path), load_competition(str(path)).name
    backbone = "string_cnn" if name == "captcha" else "svhn_cnn"
    for command, more in (
        ("prepare", ("--num-folds", 2, "--image-size", 24, 48)),
        ("train", ("--backbone", backbone, "--no-pretrained", "--batch-size", 8, "--epochs", 1)),
        ("evaluate", ()),
        ("predict", ()),
    ):
        ended = podium(command, *flags, *more)
        assert ended.code == 0, f"{command}: {ended.err}"
        assert "do not look like classes" not in ended.out
    root = tmp_path / "runs" / name
    scores = json.loads((root / "baseline" / "evaluation" / "scores.json").read_text())
    written = parse_csv((tmp_path / "submissions" / name / "baseline.csv").read_bytes(), "the submission")
    return prepared_at(root, str(path)).competition, scores, written


def check_answers(competition: Competition, table: pd.DataFrame) -> None:
    """Check that a submission holds what the competition's kind of answer allows, and nothing else."""
    head, texts = competition.heads[0], table.iloc[:, 1]
    if competition.answer == "probabilities":
        numbers = table.iloc[:, 1:].astype(float).to_numpy()
        assert ((numbers > 0) & (numbers < 1)).all()
        assert len(np.unique(numbers)) > len(table) // 2  # not one answer for all
        if head.kind == "class" and numbers.shape[1] > 1:
            np.testing.assert_allclose(numbers.sum(axis=1), 1, atol=1e-5)
    elif competition.answer == "rows":
        for one in competition.heads:
            own = texts[table.iloc[:, 0].str.endswith(f"_{one.name}")]
            assert len(own) == NUM_TEST
            assert set(own) <= set(one.classes)
    elif competition.is_string:
        assert texts.str.fullmatch("[0-9a-z]{5}").all()
    elif head.kind == "labels" or competition.num_answers > 1:
        lists = texts.str.split(" ")
        assert set(lists.explode()) <= set(head.classes)
        assert (lists.map(len) == lists.map(set).map(len)).all()
        if competition.num_answers > 1:
            assert set(lists.map(len)) == {competition.num_answers}
    else:
        assert set(texts) <= set(head.classes)


def check_walk(podium: Podium, tmp_path: Path, path: Path, name: str) -> None:
    """Check what the four commands write of a competition whose files are in input/."""
    competition, scores, written = walk(podium, tmp_path, path)
    assert scores["score_name"] == SCORE_NAMES[name]
    assert scores["num_images"] == NUM_TRAIN
    assert isinstance(scores["score"], float)
    folder = tmp_path / "input" / name
    sample = parse_csv((folder / "sample_submission.csv").read_bytes(), "sample_submission.csv")
    assert list(written.columns) == list(sample.columns)
    assert written.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    check_answers(competition, written)


@each_name
def test_an_example_goes_from_the_organisers_files_to_a_submission(podium: Podium, tmp_path: Path, name: str) -> None:
    if name == "bengaliai_cv19":
        pytest.importorskip("pyarrow")
    MAKERS[name](Maker(tmp_path / "input" / name, NUM_TRAIN, NUM_TEST))
    check_walk(podium, tmp_path, FOLDER / f"{name}.py", name)
    labels, folds = (table_at(tmp_path / "runs" / name, table) for table in ("labels", "folds"))
    joined = labels.merge(folds, on="image_path", validate="one_to_one")
    assert joined["fold"].nunique() == 2
    assert joined.groupby("group")["fold"].nunique().max() == 1
    assert name not in NUM_GROUPS or joined["group"].nunique() == NUM_GROUPS[name]


def test_several_heads_are_answered_in_rows_also_from_image_files(
    podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bengaliai_cv19, its parquet files replaced by PNG files: pyarrow is not always there."""

    def write_images(maker: Maker, part: str, images: np.ndarray) -> None:
        for row, image in enumerate(images):
            maker.save(f"{part}_image_data/{part.title()}_{row}.png", cv2.resize(image, (48, 28)))

    monkeypatch.setattr(make_data, "write_parquet", write_images)
    MAKERS["bengaliai_cv19"](Maker(tmp_path / "input" / "bengaliai_cv19", NUM_TRAIN, NUM_TEST))
    lines = (FOLDER / "bengaliai_cv19.py").read_text().splitlines()
    path = tmp_path / "bengaliai_cv19.py"
    path.write_text("\n".join(line for line in lines if "parquet_images" not in line))
    check_walk(podium, tmp_path, path, "bengaliai_cv19")


@pytest.mark.slow
def test_a_parquet_file_that_is_cut_off_or_missing_is_one_line(podium: Podium, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    flags, folder = ("--competition", FOLDER / "bengaliai_cv19.py"), tmp_path / "input" / "bengaliai_cv19"
    MAKERS["bengaliai_cv19"](Maker(folder, NUM_TRAIN, NUM_TEST))
    broken = folder / "train_image_data_1.parquet"
    broken.write_bytes(broken.read_bytes()[:-9])
    assert "error: train_image_data_1.parquet: not a readable parquet file" in podium("prepare", *flags).err
    broken.unlink()
    ended = podium("prepare", *flags, "--num-folds", 2)
    assert ended.code == 0, ended.err
    assert f"{NUM_TRAIN // 2} train missing" in ended.out
    (folder / "train_image_data_0.parquet").unlink()
    assert "train_image_data_0.parquet is missing. Put the files of" in podium("prepare", *flags).err


def test_parquet_files_without_pyarrow_are_one_line(
    podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    folder = tmp_path / "input" / "bengaliai_cv19"
    folder.mkdir(parents=True)
    columns = ("image_id", "grapheme_root", "vowel_diacritic", "consonant_diacritic")
    (folder / "train.csv").write_text(f"{','.join(columns)}\nTrain_0,1,2,3\nTrain_1,2,3,4\n")
    (folder / "train_image_data_0.parquet").write_bytes(b"PAR1")
    line = "error: train_image_data_0.parquet: pyarrow is not installed; pip install -r requirements-parquet.txt\n"
    assert podium("prepare", "--competition", FOLDER / "bengaliai_cv19.py").err == line


def test_there_is_data_for_every_example() -> None:
    assert sorted(MAKERS) == sorted(SCORE_NAMES) == [path.stem for path in FILES]


@each_file
def test_an_example_is_short_is_named_after_its_competition_and_is_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    start = time.perf_counter()
    competition = load_competition(str(path))
    assert time.perf_counter() - start < MAX_SECONDS
    assert competition.name == path.stem
    assert f"input/{competition.name}/" in competition.source


def make(monkeypatch: pytest.MonkeyPatch, *flags: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_data.py", *map(str, flags)])
    cli.run(make_data.main, MakeDataConfig, make_data.__doc__)


def test_the_same_data_are_made_each_time_and_never_over_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("one", "other"):
        make(monkeypatch, "captcha", "--folder", tmp_path / folder, "--num-train", 20, "--num-test", 3)
    found = [{path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("one", "other")]
    assert found[0] == found[1]
    assert len(found[0]) == 24
    with pytest.raises(SystemExit):
        make(monkeypatch, "captcha", "--folder", tmp_path / "one")
    assert "there are files already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make(monkeypatch, "captchas")
    assert "did you mean captcha?" in capsys.readouterr().err
