"""Corrected labels: applied, recorded, and refused in one line if they cannot be right."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from src.competitions.registry import load_competition
from src.competitions.spec import Head
from src.core.errors import InputError
from src.data.problems import _conflicts
from tests.fixtures import MakeFood11, MakeSvhn, Podium
from tests.helpers import snapshot_at, table_at
from tests.world import refused

PREPARE = ("prepare", "--num-folds", 2)
HEADER = "image_path,label,by,when\n"


def test_corrected_labels_are_in_the_snapshot_and_its_id(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=2)
    assert podium(*PREPARE).code == 0
    root = tmp_path / "runs" / "svhn"
    plain, before = snapshot_at(root), table_at(root, "labels").set_index("image_path")
    same = "".join(str(one) for one in before.loc["mchar_train/000002.png"].iloc[:6] if one != 10)
    rows = f"mchar_train/000001.png,905,Ann,2026-11-26\nmchar_train/000002.png,{same},Ann,2026-11-26\n"
    (tmp_path / "fixes.csv").write_text(HEADER + rows)
    ended = podium(*PREPARE, "--relabel", "fixes.csv")
    assert ended.code == 0, ended.err
    assert "relabelled: 1 labels changed, 1 confirmed by Ann (fixes.csv)" in ended.out
    assert snapshot_at(root) != plain
    after = table_at(root, "labels").set_index("image_path")
    others = after.index != "mchar_train/000001.png"
    assert after[~others].iloc[:, :6].to_numpy().tolist() == [[9, 0, 5, 10, 10, 10]]
    assert after[others].equals(before[others])
    record = json.loads((snapshot_at(root) / "snapshot.json").read_text())
    assert "relabelled" not in json.loads((plain / "snapshot.json").read_text())  # or all ids would be new
    assert record["relabelled"] == {"num_changed": 1, "num_confirmed": 1, "by": ["Ann"]}
    kept = table_at(root, "relabel")
    assert kept["label"].tolist() == ["905", same]
    assert kept["when"].tolist() == ["2026-11-26"] * 2
    assert podium(*PREPARE).code == 0
    assert snapshot_at(root) == plain  # without corrections, ids are as they were


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("mchar_train/99.png,1,,", ("line 2", "no labelled image is called 'mchar_train/99.png'")),
        ("other/000001.png,1,,", ("did you mean 'mchar_train/000001.png'?",)),
        ("mchar_train/000001.png,1x,,", ("line 2", "'1x' cannot be a label: 'x' is not one of 0 1 2")),
        ("mchar_train/000001.png,1234567,,", ("has 7 characters, expected 1 to 6",)),
        ("mchar_train/000001.png,,,", ("has 0 characters",)),
        ("mchar_train/000001.png,1,,\nmchar_train/000001.png,2,,", ("line 3", "differently in fixes.csv, line 2")),
    ],
)
def test_what_cannot_be_a_correction_is_refused(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, row: str, words: tuple[str, ...]
) -> None:
    svhn(num_test=2)
    (tmp_path / "fixes.csv").write_text(f"{HEADER}{row}\n")
    refused(podium(*PREPARE, "--relabel", "fixes.csv"), "fixes.csv", *words)
    assert not (tmp_path / "runs" / "svhn" / "prepared" / "current.json").exists()


def test_a_class_may_be_given_by_its_name(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    food11(num_test=2)
    (tmp_path / "fixes.csv").write_text(f"{HEADER}training/0_0.jpg,Egg,,\ntraining/1_1.jpg,7,,\n")
    flags = (*PREPARE, "--competition", "food11", "--relabel", "fixes.csv")
    assert "2 labels changed, 0 confirmed by someone" in podium(*flags).out
    labels = table_at(tmp_path / "runs" / "food11", "labels").set_index("image_path")["category"]
    assert (labels["training/0_0.jpg"], labels["training/1_1.jpg"]) == (3, 7)
    (tmp_path / "fixes.csv").write_text(f"{HEADER}training/0_0.jpg,Eggs,,\n")
    refused(podium(*flags), "it is no class; did you mean Egg?")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("crane", "crane", "dog"), "'crane' in class_names would mean class '0' and class '1'"),
        (("1", "cat", "dog"), "'1' in class_names would mean class '1' and class '0'"),
        (("cat", "dog"), "2 class_names for 3 classes"),
    ],
)
def test_names_that_could_mean_two_classes_are_refused(names: tuple[str, ...], words: str) -> None:
    head = Head(name="pet", classes=("0", "1", "2"))
    with pytest.raises(InputError, match=words):
        replace(load_competition("food11"), heads=(head,), class_names=names)
    assert replace(load_competition("food11"), heads=(head,), class_names=("0", "cat", "dog")).class_names[0] == "0"


PIXELS = [[0, 1, 2]]  # rows of identical images


@pytest.mark.parametrize(
    ("classes", "corrected", "dropped", "said"),
    [
        ((1, 2, 2), (), {0, 1, 2}, {"a": "b", "b": "a", "c": "a"}),
        ((1, 2, 2), ("a",), {1, 2}, {"b": "a", "c": "a"}),
        ((1, 2, 2), ("c",), {0}, {"a": "c", "b": "c"}),
        ((1, 2, 1), ("a", "c"), {1}, {"b": "a", "c": "a"}),
        ((1, 2, 2), ("a", "c"), {0, 1, 2}, {"a": "b", "b": "a", "c": "a"}),  # people who contradict each other
        ((1, 1, 1), (), set(), {"b": "a", "c": "a"}),
    ],
)
def test_a_corrected_label_wins_over_those_of_identical_images(
    classes: tuple[int, ...], corrected: tuple[str, ...], dropped: set[int], said: dict[str, str]
) -> None:
    labels = pd.DataFrame({"image_path": ["a", "b", "c"], "category": classes})
    found, problems = _conflicts(labels, load_competition("food11"), PIXELS, frozenset(corrected))
    assert found == dropped
    wins = "" if len(dropped) == 3 or not corrected else ", whose label --relabel gives"
    for problem in problems:
        is_dropped = ord(problem.image_path) - ord("a") in dropped
        assert problem.problem == ("conflicting labels" if is_dropped else "duplicate")
        assert problem.action == ("skipped" if is_dropped else "kept in one group")
        assert problem.detail == f"same pixels as {said[problem.image_path]}" + wins * is_dropped
    assert [problem.image_path for problem in problems] == sorted(said)


def test_one_of_two_identical_images_is_corrected(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    folder = svhn(num_test=2)
    shutil.copy(folder / "mchar_train" / "000001.png", folder / "mchar_train" / "000004.png")
    (tmp_path / "fixes.csv").write_text(f"{HEADER}mchar_train/000001.png,905,Ann,\n")
    assert podium(*PREPARE, "--relabel", "fixes.csv").code == 0
    kept = table_at(tmp_path / "runs" / "svhn", "labels")["image_path"].tolist()
    assert "mchar_train/000001.png" in kept
    assert "mchar_train/000004.png" not in kept
    problems = table_at(tmp_path / "runs" / "svhn", "problems").set_index("image_path")
    detail = "same pixels as mchar_train/000001.png, whose label --relabel gives"
    assert problems.loc["mchar_train/000004.png", "detail"] == detail


def test_a_file_without_its_columns_is_refused(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=2)
    (tmp_path / "fixes.csv").write_text("image_path,label\n")
    refused(podium(*PREPARE, "--relabel", "fixes.csv"), "fixes.csv, line 1: no column 'by'")
    refused(podium(*PREPARE, "--relabel", "none.csv"), "none.csv: no such file")
