"""prepare: the folds, and which images stay together."""

import json
from pathlib import Path

import pytest

from src.data import problems
from tests.fixtures import MakeMnist, MakeSvhn, Podium
from tests.helpers import prepared_at, snapshot_at, table_at
from tests.test_prepare import relabel


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "svhn"


def test_folds_do_not_depend_on_packing_or_label_order(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    folder = svhn()
    written = []
    for case in ("plain", "shuffled", "zip"):
        if case == "shuffled":
            path = folder / "mchar_train.json"
            path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
        if case == "zip":
            folder.rename(folder.with_name("was"))
            svhn(packing="zip")
        assert podium("prepare", "--num-folds", 3)[0] == 0
        caches = [prepared_at(root).cache_file(split, (64, 128)) for split in ("train", "test")]
        written.append({file.name: file.read_bytes() for file in (*snapshot_at(root).iterdir(), *caches)})
    assert written[0] == written[1] == written[2]


def test_duplicates_are_never_split_across_folds(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    folder = svhn(num_train=30)
    relabel(folder, {f"{i:06d}.png": [7] for i in range(30)})
    for i in range(0, 30, 3):
        for copy in (i + 1, i + 2):
            target = folder / "mchar_train" / f"{copy:06d}.png"
            target.write_bytes((folder / "mchar_train" / f"{i:06d}.png").read_bytes())
    assert podium("prepare")[0] == 0
    joined = table_at(root, "folds").merge(table_at(root, "labels"), on="image_path")
    assert joined["group"].nunique() == 10 + 6
    assert joined.groupby("group")["fold"].nunique().max() == 1


def test_without_a_search_for_duplicates_only_given_groups_are_kept_together(
    svhn: MakeSvhn, podium: Podium, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = svhn()
    relabel(folder, {"000000.png": [7], "000001.png": [8]})
    for copy in ("000001.png", "000002.png"):
        (folder / "mchar_train" / copy).write_bytes((folder / "mchar_train" / "000000.png").read_bytes())
    assert "conflicting" in podium("prepare", "--num-folds", 3).out
    searched = snapshot_at(root)
    for search in ("near_duplicates", "exact_duplicates"):
        monkeypatch.setattr(problems, search, lambda *_: pytest.fail("searched for duplicates"))
    code, out, _ = podium("prepare", "--num-folds", 3, "--no-duplicates")
    assert code == 0
    assert "duplicates are not searched (--no-duplicates): copies of an image may lie on both sides of a fold" in out
    assert "conflicting" not in out
    labels = table_at(root, "labels")
    assert len(labels) == 18
    assert labels["group"].nunique() == 18
    assert snapshot_at(root) != searched
    assert prepared_at(root).command().endswith("--num-folds 3 --no-duplicates")


def test_the_official_split_holds_out_the_validation_set(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    svhn()
    code, out, _ = podium("prepare", "--split", "official")
    assert code == 0
    assert "held out by fold: 0: 6" in out
    folds = table_at(root, "folds")
    assert (folds["fold"].notna() == folds["image_path"].str.startswith("mchar_val/")).all()


def test_a_holdout_is_one_fold_and_the_rest_is_always_trained_on(
    mnist: MakeMnist, podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist(num_train=40)
    flags = ("--competition", "mnist", "--split", "holdout")
    code, out, _ = podium("prepare", *flags, "--num-val", 10)
    assert code == 0
    assert "40 usable labelled images; held out by fold: 0: 10" in out
    root = tmp_path / "runs" / "mnist"
    folds = table_at(root, "folds").merge(table_at(root, "labels"), on="image_path")
    assert sorted(folds["digit"][folds["fold"] == 0]) == list(range(10))
    assert folds["fold"].isna().sum() == 30
    monkeypatch.setattr("src.data.building.build_cache", lambda *_, **__: pytest.fail("decoded before the check"))
    code, _, err = podium("prepare", *flags, "--num-val", 21)
    assert code == 2
    assert "--num-val 21: from 1 to 20 of the 40 images can be held out" in err
    monkeypatch.undo()
    assert "held out by fold: 0: 8" in podium("prepare", *flags).out  # a fifth


def test_a_users_folds_are_used_with_a_warning_about_leaks(
    svhn: MakeSvhn, podium: Podium, root: Path, tmp_path: Path
) -> None:
    folder = svhn()
    relabel(folder, {"000000.png": [7], "000001.png": [7]})
    (folder / "mchar_train" / "000001.png").write_bytes((folder / "mchar_train" / "000000.png").read_bytes())
    assert podium("prepare")[0] == 0
    paths = table_at(root, "labels")["image_path"]
    rows = [f"{path},{i % 2}" for i, path in enumerate(paths)]
    (tmp_path / "mine.csv").write_text("\n".join(["image_path,fold", *rows]))
    code, out, _ = podium("prepare", "--folds", "mine.csv")
    assert code == 0
    assert "warning: groups of duplicates on both sides of a fold: 1;" in out
    assert table_at(root, "folds")["fold"].tolist() == [i % 2 for i in range(18)]


def test_prepares_own_folds_are_taken_again_although_an_image_was_skipped(
    svhn: MakeSvhn, podium: Podium, root: Path, tmp_path: Path
) -> None:
    (svhn() / "mchar_train" / "000002.png").write_bytes(b"no image")
    assert podium("prepare", "--num-folds", 3).code == 0
    kept = tmp_path / "kept.csv"
    kept.write_bytes((snapshot_at(root) / "folds.csv").read_bytes())
    ended = podium("prepare", "--folds", kept)
    assert ended.code == 0, ended.err
    assert (snapshot_at(root) / "folds.csv").read_bytes() == kept.read_bytes()
