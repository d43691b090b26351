"""Submissions: every file written is one that the organiser accepts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.competitions import food11
from src.competitions import svhn as street
from src.competitions.spec import Head
from src.core.errors import InputError
from src.inference.submission import validate, write_submission
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import prepared_at

IDS = pd.Series(["000000.png", "000001.png", "000002.png"])
GOOD = ["file_name,file_code", "000000.png,007", "000001.png,123456", "000002.png,0"]


def check(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "answers.csv").write_text("\n".join([*lines, ""]))
    validate(tmp_path / "answers.csv", IDS, street.COMPETITION)


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
        validate(tmp_path / "answers.csv", pd.Series(["0"]), food11.COMPETITION)


def test_without_a_pad_class_an_answer_has_a_class_of_every_head(tmp_path: Path) -> None:
    head = Head(name="size", classes=("small", "large"))
    pair = replace(street.COMPETITION, heads=(head, replace(head, name="weight")), pad_class=None)
    (tmp_path / "answers.csv").write_text("file_name,file_code\na.png,smalllarge\n")
    validate(tmp_path / "answers.csv", pd.Series(["a.png"]), pair)
    digits = replace(street.COMPETITION, heads=street.DIGITS[:2], pad_class=None)
    (tmp_path / "answers.csv").write_text("file_name,file_code\na.png,1\n")
    with pytest.raises(InputError):
        validate(tmp_path / "answers.csv", pd.Series(["a.png"]), digits)


def spelled(codes: list[str]) -> np.ndarray:
    """Return probabilities (N, 66) that spell the codes."""
    ids = [[*map(int, code), *[street.PAD_CLASS] * (6 - len(code))] for code in codes]
    return (np.eye(11)[ids] * 0.9 + 0.1 / 11).astype(np.float32).reshape(len(codes), 66)


def test_leading_zeros_are_kept_and_probabilities_and_a_note_are_saved(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path
) -> None:
    svhn(num_test=3)
    assert podium("prepare").code == 0
    folder, prepared = tmp_path / "submissions", prepared_at(tmp_path / "runs" / "svhn")
    probabilities = spelled(["007", "000000", "12"])
    path = write_submission(folder, "mine", probabilities, prepared, {"views": ["original"]})
    assert path.read_bytes() == b"file_name,file_code\n000000.png,007\n000001.png,000000\n000002.png,12\n"
    with np.load(folder / "mine.npz") as kept:
        assert np.array_equal(kept["probabilities"], probabilities)
        assert kept["image_path"].tolist() == [f"mchar_test_a/{name}" for name in IDS]
    assert '"num_answers": 3' in (folder / "mine.json").read_text()


def test_a_refused_submission_keeps_the_previous_one(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=3)
    assert podium("prepare").code == 0
    folder, prepared = tmp_path / "submissions", prepared_at(tmp_path / "runs" / "svhn")
    path = write_submission(folder, "mine", spelled(["1", "2", "3"]), prepared, {})
    before = {file: file.read_bytes() for file in folder.iterdir()}
    mute = tuple(Head(name=head.name, classes=("",) * 11) for head in street.DIGITS)
    silent = replace(prepared, competition=replace(street.COMPETITION, heads=mute))
    with pytest.raises(InputError, match="the answer is empty"):
        write_submission(folder, "mine", spelled(["4", "5", "6"]), silent, {})
    assert path in before
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
