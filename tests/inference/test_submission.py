"""Submissions: every file written is one that the organiser accepts."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions import food11
from src.competitions import svhn as street
from src.competitions.spec import Head
from src.core.errors import InputError
from src.core.writing import sha256_of
from src.inference import testset
from src.inference.submission import Answer, note_harmful_views, validate, write_submission
from tests.inference.test_answers import ABC, competition

IDS = pd.Series(["000000.png", "000001.png", "000002.png"])
GOOD = ["file_name,file_code", "000000.png,007", "000001.png,123456", "000002.png,0"]


def asked(ids: pd.Series) -> testset.TestSet:
    """Return the test set of these ids, each of one image."""
    table = pd.DataFrame({"image_path": [f"mchar_test_a/{name}" for name in ids], "id": ids})
    return testset.TestSet(table=table, sources=None, note="", sample="input")


def check(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "answers.csv").write_text("\n".join([*lines, ""]))
    validate(tmp_path / "answers.csv", asked(IDS), street.COMPETITION)


def test_a_valid_submission_passes(tmp_path: Path) -> None:
    check(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD[:-1], "2 answers, the sample submission has 3"),
        ([*GOOD, "000003.png,5"], "4 answers, the sample submission has 3"),
        ([*GOOD[:-1], "000001.png,0"], "line 4: id '000001.png' where the sample submission has '000002.png'"),
        ([GOOD[0], GOOD[2], GOOD[1], GOOD[3]], "line 2: id '000001.png' where the sample submission has '000000.png'"),
        (["file_name,code", *GOOD[1:]], "line 1: the header is file_name,code, expected file_name,file_code"),
        (["file_code,file_name", *GOOD[1:]], "line 1: the header is"),
        ([GOOD[0], "000000.png,", *GOOD[2:]], "line 2: the answer is empty"),
        ([GOOD[0], "000000.png,12a", *GOOD[2:]], "line 2: answer '12a' is not made of"),
        ([GOOD[0], "000000.png,1 2", *GOOD[2:]], "line 2: answer '1 2' is not made of"),
        ([GOOD[0], "000000.png,-1", *GOOD[2:]], "line 2: answer '-1' is not made of"),
        ([GOOD[0], "000000.png,1234567", *GOOD[2:]], "line 2: answer '1234567' is not made of"),
        ([GOOD[0], "000000.png,\u0663", *GOOD[2:]], "line 2: answer '\u0663' is not made of"),
        ([GOOD[0], "000000.png,1,2", *GOOD[2:]], "line 2: 3 cells"),
    ],
)
def test_an_invalid_submission_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(tmp_path, lines)


@pytest.mark.parametrize("answer", ["11", "01", "1.0", ""])
def test_an_unknown_class_is_refused(tmp_path: Path, answer: str) -> None:
    (tmp_path / "answers.csv").write_text(f"Id,Category\n0,{answer}\n")
    with pytest.raises(InputError, match="line 2: "):
        validate(tmp_path / "answers.csv", asked(pd.Series(["0"])), food11.COMPETITION)


def test_without_a_pad_class_an_answer_has_a_class_of_every_head(tmp_path: Path) -> None:
    head = Head(name="size", classes=("small", "large"))
    pair = replace(street.COMPETITION, heads=(head, replace(head, name="colour")), pad_class=None)
    (tmp_path / "answers.csv").write_text("file_name,file_code\na.png,smalllarge\n")
    validate(tmp_path / "answers.csv", asked(pd.Series(["a.png"])), pair)
    digits = replace(street.COMPETITION, heads=street.DIGITS[:2], pad_class=None)
    (tmp_path / "answers.csv").write_text("file_name,file_code\na.png,1\n")
    with pytest.raises(InputError):
        validate(tmp_path / "answers.csv", asked(pd.Series(["a.png"])), digits)


def spelled(codes: list[str], weight: float = 1.0, num_unreadable: int = 0) -> Answer:
    """Return a run's answer, probabilities (N, 66) that spell the codes."""
    ids = [[*map(int, code), *[street.PAD_CLASS] * (6 - len(code))] for code in codes]
    probabilities = (np.eye(11)[ids] * 0.9 + 0.1 / 11).astype(np.float32).reshape(len(codes), 66)
    return Answer(probabilities=probabilities, num_unreadable=num_unreadable, facts={"weight": weight})


@pytest.fixture
def three() -> testset.TestSet:
    """Return the test set of three images."""
    return asked(IDS)


def test_leading_zeros_are_kept_and_probabilities_and_a_note_are_saved(tmp_path: Path, three: testset.TestSet) -> None:
    folder, one = tmp_path / "submissions", spelled(["007", "000000", "12"])
    path = write_submission(folder, "mine", [one], three, street.COMPETITION, {"predicted": {"tta": False}})
    assert path.read_bytes() == b"file_name,file_code\n000000.png,007\n000001.png,000000\n000002.png,12\n"
    with np.load(folder / "mine.npz") as kept:
        assert np.array_equal(kept["probabilities"], one.probabilities)
        assert kept["image_path"].tolist() == [f"mchar_test_a/{name}" for name in IDS]
    note = json.loads((folder / "mine.json").read_text())
    assert (note["num_answers"], note["predicted"]) == (3, {"tta": False})
    assert note["sha256"] == sha256_of(path)
    assert note["probabilities_sha256"] == sha256_of(folder / "mine.npz")


def test_answers_are_averaged_with_their_weights(tmp_path: Path, three: testset.TestSet) -> None:
    answers = [spelled(["1", "2", "3"], 0.75), spelled(["4", "5", "6"], 0.25, num_unreadable=1)]
    path = write_submission(tmp_path, "both", answers, three, street.COMPETITION, {})
    assert path.read_text().splitlines()[1:] == ["000000.png,1", "000001.png,2", "000002.png,3"]
    with np.load(tmp_path / "both.npz") as kept:
        expected = 0.75 * answers[0].probabilities + 0.25 * answers[1].probabilities
        np.testing.assert_allclose(kept["probabilities"], expected, atol=1e-6)
    assert json.loads((tmp_path / "both.json").read_text())["num_unreadable"] == 1


def test_a_refused_submission_keeps_the_previous_one(tmp_path: Path, three: testset.TestSet) -> None:
    path = write_submission(tmp_path, "mine", [spelled(["1", "2", "3"])], three, street.COMPETITION, {})
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    mute = tuple(Head(name=head.name, classes=(*"abcd", "", *"fghijk")) for head in street.DIGITS)  # of a 4
    with pytest.raises(InputError, match="the answer is empty"):
        write_submission(
            tmp_path, "mine", [spelled(["4", "5", "6"])], three, replace(street.COMPETITION, heads=mute), {}
        )
    assert path in before
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("metric", "scores", "is_told"),
    [
        ("accuracy", [(0.9, 0.86), (0.8, 0.7)], True),
        ("accuracy", [(0.9, 0.86), (0.8, 0.81)], False),
        ("accuracy", [(0.99121, 0.99119)], False),
        ("accuracy", [], False),
        ("log_loss", [(0.5, 0.6)], True),
        ("log_loss", [(0.6, 0.5)], False),
    ],
)
def test_views_that_lower_the_score_of_every_fold_are_told(
    capsys: pytest.CaptureFixture[str], metric: str, scores: list[tuple[float, float]], is_told: bool
) -> None:
    started = SimpleNamespace(train=SimpleNamespace(views=()))
    run: Any = SimpleNamespace(name="nin", competition=competition(ABC, metric=metric), started_record=started)
    folds: Any = [
        SimpleNamespace(number=number, result=SimpleNamespace(score=plain, score_tta=views))
        for number, (plain, views) in enumerate(scores)
    ]
    note_harmful_views(run, folds, tta=True)
    assert ("predict --no-tta answers without them" in capsys.readouterr().out) == is_told
    note_harmful_views(run, folds, tta=False)
    started.train.views = ("auto",)
    note_harmful_views(run, folds, tta=True)
    assert not capsys.readouterr().out
