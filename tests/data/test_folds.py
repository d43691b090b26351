"""Folds are stratified, never split a group, do not depend on the order of rows, and can be read from a file."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.competitions.registry import load_competition
from src.config import PrepareConfig
from src.core.errors import InputError
from src.data.folds import from_file, holdout, kfold, official, split_groups, strata
from src.data.split import without_effect
from tests.fixtures import MakeLeaves, Podium
from tests.helpers import snapshot_at

FOOD, SVHN = load_competition("food11"), load_competition("svhn")


def food_labels(count: int = 200, group_size: int = 1) -> pd.DataFrame:
    """Return rows of 4 classes, a quarter each; `group_size` consecutive rows share a group."""
    numbers = np.arange(count)
    paths = [f"training/{i % 4}_{i:04d}.jpg" for i in numbers]
    return pd.DataFrame({"image_path": paths, "category": numbers % 4, "group": numbers // group_size})


def test_each_fold_has_its_share_of_every_class() -> None:
    labels = food_labels()
    joined = kfold(labels, FOOD, 5, 0).merge(labels, on="image_path")
    assert (pd.crosstab(joined["fold"], joined["category"]) == 10).all(axis=None)


def test_folds_of_strings_balance_length_and_first_digit() -> None:
    rng = np.random.default_rng(0)
    length, digits = rng.integers(1, 4, 600), rng.integers(0, 3, (600, 6))
    digits = np.where(np.arange(6) < length[:, None], digits, 10)
    labels = pd.DataFrame(digits, columns=SVHN.targets)
    labels = labels.assign(image_path=[f"{i:04d}" for i in range(600)], group=range(600))
    assert strata(labels, SVHN).nunique() == 9
    joined = kfold(labels, SVHN, 4, 0).merge(labels, on="image_path")
    counts = pd.crosstab(joined["fold"], strata(joined, SVHN))
    assert (counts.max() - counts.min()).max() <= 1


def test_a_group_is_never_split() -> None:
    labels = food_labels(group_size=7)
    folds = kfold(labels, FOOD, 5, 0)
    assert folds.merge(labels, on="image_path").groupby("group")["fold"].nunique().max() == 1
    assert folds["fold"].nunique() == 5
    assert split_groups(folds.merge(labels)) == 0


def test_single_images_even_out_what_larger_groups_leave_uneven() -> None:
    rng = np.random.default_rng(0)
    labels = food_labels(2000).assign(category=rng.integers(0, 7, 2000))
    labels["group"] = np.where(np.arange(2000) < 600, np.arange(2000) // 9, np.arange(2000))
    joined = kfold(labels, FOOD, 5, 0).merge(labels, on="image_path")
    counts = pd.crosstab(joined["fold"], joined["category"])
    assert (counts.max() - counts.min()).max() <= 1
    assert joined["fold"].value_counts().tolist() == [400] * 5


@pytest.mark.parametrize("class_id", [0, 9])
def test_other_classes_compensate_for_a_large_group(class_id: int) -> None:
    counts = [24] * 9
    counts.insert(class_id, 100)
    labels = food_labels(sum(counts)).assign(category=np.repeat(range(10), counts))
    large = labels.index[labels["category"] == class_id][:20]
    labels.loc[large, "group"] = -1
    sizes = kfold(labels, FOOD, 5, 0)["fold"].value_counts()
    assert sizes.max() - sizes.min() <= 1


def test_groups_of_a_single_class_are_spread_over_the_folds() -> None:
    labels = food_labels(240, group_size=4).assign(category=lambda table: table["group"] % 3)
    joined = kfold(labels, FOOD, 4, 0).merge(labels, on="image_path")
    counts = pd.crosstab(joined["fold"], joined["category"])
    assert (counts == 20).all(axis=None)


def test_folds_do_not_depend_on_the_order_of_rows_or_the_names_of_groups() -> None:
    labels = food_labels(group_size=3)
    folds = kfold(labels, FOOD, 5, 0)
    shuffled = labels.sample(frac=1, random_state=1).assign(group=lambda table: 1000 - table["group"])
    pd.testing.assert_frame_equal(kfold(shuffled, FOOD, 5, 0), folds)


def test_the_seed_changes_the_folds_and_the_same_seed_does_not() -> None:
    labels = food_labels()
    assert kfold(labels, FOOD, 5, 0).equals(kfold(labels, FOOD, 5, 0))
    assert not kfold(labels, FOOD, 5, 0).equals(kfold(labels, FOOD, 5, 1))


@pytest.mark.parametrize("num_folds", [-1, 0, 1, 6])
def test_an_impossible_number_of_folds_is_an_error_that_gives_the_range(num_folds: int) -> None:
    labels = food_labels(group_size=40)
    with pytest.raises(InputError, match=f"--num-folds {num_folds}: between 2 and 5 folds"):
        kfold(labels, FOOD, num_folds, 0)


def test_classes_smaller_than_the_number_of_folds_are_allowed() -> None:
    labels = food_labels(40)
    labels.loc[0, "category"] = 9
    assert kfold(labels, FOOD, 5, 0)["fold"].value_counts().tolist() == [8] * 5


@pytest.mark.parametrize("num_val", [1, 3, 40, 41, 100])
def test_a_holdout_has_the_requested_size_and_its_share_of_every_class(num_val: int) -> None:
    labels = food_labels(200)
    labels["category"] = [0] * 100 + [1] * 60 + [2] * 36 + [3] * 4
    folds = holdout(labels, FOOD, num_val, 0)
    assert folds["image_path"].tolist() == sorted(labels["image_path"])
    assert folds["fold"].dtype == "Int64"
    val = folds.merge(labels, on="image_path").dropna(subset="fold")
    assert len(val) == num_val
    assert (val["fold"] == 0).all()
    counts = val["category"].value_counts().reindex(range(4), fill_value=0)
    assert (abs(counts - np.array([100, 60, 36, 4]) * num_val / 200) <= 1).all()


def test_a_holdout_depends_on_the_seed_but_not_on_row_order_or_group_names() -> None:
    labels = food_labels(200, group_size=3)
    folds = holdout(labels, FOOD, 50, 0)
    shuffled = labels.sample(frac=1, random_state=1).assign(group=lambda table: 1000 - table["group"])
    pd.testing.assert_frame_equal(holdout(shuffled, FOOD, 50, 0), folds)
    other = holdout(labels, FOOD, 50, 1)
    assert not other.equals(folds)
    assert (other["fold"].notna() & folds["fold"].notna()).sum() < 40  # not simply the first of each class


@pytest.mark.parametrize(("group_size", "num_val"), [(2, 40), (4, 40), (7, 40), (10, 40), (7, 6), (40, 80)])
def test_a_holdout_splits_no_group_and_has_nearly_the_requested_size(group_size: int, num_val: int) -> None:
    labels = food_labels(200, group_size)
    folds = holdout(labels, FOOD, num_val, 0)
    assert split_groups(folds.merge(labels)) == 0
    assert num_val - group_size <= folds["fold"].notna().sum() <= num_val
    assert folds["fold"].notna().any()


@pytest.mark.parametrize("group_size", [4, 40])
def test_a_holdout_smaller_than_every_group_is_not_empty(group_size: int) -> None:
    """It may be larger than requested, or an error; with an empty one, training would silently do nothing."""
    labels = food_labels(200, group_size)
    with contextlib.suppress(InputError):
        folds = holdout(labels, FOOD, group_size - 1, 0)
        assert folds["fold"].notna().any()
        assert split_groups(folds.merge(labels)) == 0


@pytest.mark.parametrize("num_val", [-1, 0, 101, 1000])
def test_a_holdout_of_nothing_or_more_than_half_is_an_error(num_val: int) -> None:
    with pytest.raises(InputError, match=f"--num-val {num_val}: from 1 to 100 of the 201 images"):
        holdout(food_labels(201), FOOD, num_val, 0)


def test_the_official_validation_set_is_fold_0_and_the_rest_has_no_fold() -> None:
    labels = food_labels(10).assign(split=["train", "val"] * 5)
    folds = official(labels, "food11").merge(labels, on="image_path")
    assert folds["fold"][folds["split"] == "val"].tolist() == [0] * 5
    assert folds["fold"][folds["split"] == "train"].isna().all()
    with pytest.raises(InputError, match="--split official: food11 has no official validation set"):
        official(food_labels(10), "food11")


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def rows_of(labels: pd.DataFrame) -> list[str]:
    return [f"{path},{i % 2}" for i, path in enumerate(labels["image_path"])]


def test_a_users_folds_are_joined_by_image_path(tmp_path: Path) -> None:
    labels = food_labels(4)
    rows = rows_of(labels)
    rows[3] = rows[3].split(",")[0] + ","  # no fold: always in the training set
    rows += ["training/not_usable.jpg,1"]  # prepare may have skipped an image
    folds = from_file(write(tmp_path, "\n".join(["image_path,fold", *rows[::-1], ""])), labels)
    assert folds["image_path"].tolist() == sorted(labels["image_path"])
    found = labels.merge(folds, on="image_path", validate="one_to_one")["fold"]
    assert found[:3].tolist() == [0, 1, 0]
    assert found[3] is pd.NA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: ["image_path;fold", *rows], "line 1: the header is image_path;fold|line 2: 2 cells"),
        (lambda rows: ["image,fold", *rows], "line 1: the header is image,fold, expected image_path,fold"),
        (lambda rows: ["image_path,fold", *rows, rows[0]], "line 6: 'training/0_0000.jpg' appears twice"),
        (lambda rows: ["image_path,fold", *rows[1:]], "'training/0_0000.jpg' and 0 more images have no row"),
        (lambda rows: ["image_path,fold", rows[0] + "x", *rows[1:]], "line 2: fold '0x' is not a number"),
        (lambda rows: ["image_path,fold", rows[0].replace(",0", ",-1"), *rows[1:]], "line 2: fold '-1' is not"),
        (lambda rows: ["image_path,fold", rows[0].replace(",0", ",1.0"), *rows[1:]], "line 2: fold '1.0' is not"),
        (lambda rows: ["image_path,fold", rows[0].replace(",0", ",²"), *rows[1:]], "line 2: fold '²' is not"),
        (lambda rows: ["image_path,fold", rows[0].replace(",0", ",3"), *rows[1:]], "without gaps"),
        (
            lambda rows: ["image_path,fold", "0.png,0", "1.png,1"],
            "no row names a labelled image; it has '0.png', images",
        ),
        (lambda rows: ["image_path,fold", rows[0].replace(",0", "," + "9" * 30), *rows[1:]], "mine.csv"),
        (lambda rows: ["image_path,fold", *(row[:-1] for row in rows)], "expected 0, 1, 2"),
        (lambda rows: ["image_path,fold", rows[0] + ",0", *rows[1:]], "line 2: 3 cells"),
    ],
)
def test_an_invalid_folds_file_is_an_error_naming_file_and_line(
    tmp_path: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    labels = food_labels(4)
    path = write(tmp_path, "\n".join([*change(rows_of(labels)), ""]))
    with pytest.raises(InputError, match=message) as error:
        from_file(path, labels)
    assert "mine.csv" in str(error.value)


def test_a_missing_folds_file_is_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine.csv: no such folds file"):
        from_file(tmp_path / "mine.csv", food_labels(4))


def test_groups_split_over_a_users_folds_are_counted() -> None:
    labels = food_labels(12, group_size=2)
    folds = pd.DataFrame({"image_path": labels["image_path"], "fold": pd.array([0, 0, 1, 1] * 3, dtype="Int64")})
    assert split_groups(folds.merge(labels)) == 0
    folds.loc[0, "fold"] = 1
    folds.loc[4, "fold"] = pd.NA  # always in the training set, while its duplicate is in a validation fold
    assert split_groups(folds.merge(labels)) == 2


def test_a_flag_of_another_way_to_split_is_told() -> None:
    assert not list(without_effect(PrepareConfig(num_folds=3)))
    assert not list(without_effect(PrepareConfig(split="holdout", num_val=3)))
    (line,) = without_effect(PrepareConfig(num_val=3)).values()
    assert line == "note: --num-val 3 has no effect with --split kfold; it belongs to --split holdout"
    (line,) = without_effect(PrepareConfig(num_folds=4, folds=Path("folds.csv"))).values()
    assert line == "note: --num-folds 4 has no effect with --folds folds.csv; it belongs to --split kfold"


def test_a_flag_without_effect_makes_no_other_snapshot(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    flags = ("--competition", "leaves.py", "--split", "holdout", "--num-processes", 1)
    assert podium("prepare", *flags).code == 0
    first = snapshot_at(tmp_path / "runs" / "leaves")
    ended = podium("prepare", *flags, "--num-folds", 3)
    assert "--num-folds 3 has no effect" in ended.out
    assert snapshot_at(tmp_path / "runs" / "leaves") == first


def test_classes_that_one_fold_alone_holds_out_are_told(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    file = leaves(num_train=24, num_test=4)
    rows = "".join(f"{i:04d},{'abcd'[i % 4]}\n" for i in range(24))
    (tmp_path / "input" / "leaves" / "train.csv").write_text(f"image_id,species\n{rows}")
    folds = "".join(f"train/{i:04d}.png,{int(i % 4 > 2)}\n" for i in range(24))
    (tmp_path / "folds.csv").write_text(f"image_path,fold\n{folds}")
    ended = podium("prepare", "--competition", file, "--folds", "folds.csv")
    assert "warning: all images of class 'a' are held out by fold 0, as are all of 3 other classes" in ended.out, ended
    assert "are held out by" not in podium("prepare", "--competition", file, "--num-folds", 2).out
