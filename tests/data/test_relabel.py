"""Corrected labels: applied, recorded, and refused in one line if they cannot be right."""

import json
from pathlib import Path

import pytest

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


def test_a_file_without_its_columns_is_refused(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=2)
    (tmp_path / "fixes.csv").write_text("image_path,label\n")
    refused(podium(*PREPARE, "--relabel", "fixes.csv"), "fixes.csv, line 1: no column 'by'")
    refused(podium(*PREPARE, "--relabel", "none.csv"), "none.csv: no such file")
