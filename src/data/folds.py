"""folds.csv: image_path, fold. A row without a fold is always in the training set."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.csv_text import parse_csv
from src.core.errors import InputError

NUM_BINS = 10  # parts of about equal size that numbers are stratified by


def strata(labels: pd.DataFrame, competition: Competition) -> pd.Series:
    """Return the stratum of each row.

    One class or grade: itself; labels: the rarest that the image has; a number: its tenth of the images; strings: their
    length and first class; several heads: the classes of the first two.
    """
    head, targets = competition.heads[0], labels[competition.targets]
    if head.kind == "number":
        return (targets[head.name].rank(method="first") * NUM_BINS // (len(labels) + 1)).astype(np.int64)
    if head.kind == "labels":
        given = targets[list(head.targets)].to_numpy()
        rarest = np.where(given > 0, given.sum(axis=0), len(given) + 1).argmin(axis=1)
        return pd.Series(np.where(given.any(axis=1), rarest, -1), index=labels.index)
    if len(competition.heads) == 1:
        return targets.iloc[:, 0]
    if competition.pad_class is None:
        return targets.iloc[:, 0] * 10_000 + targets.iloc[:, 1]
    length = (targets != competition.pad_class).sum(axis=1)
    return length * 1000 + targets.iloc[:, 0]


def kfold(labels: pd.DataFrame, competition: Competition, num_folds: int, seed: int) -> pd.DataFrame:
    """Return stratified folds that never split a group and do not depend on the order of rows.

    Raises InputError if there are fewer groups than folds.
    """
    ordered = labels.sort_values("image_path", ignore_index=True)
    num_groups = ordered["group"].nunique()
    if not 2 <= num_folds <= num_groups:
        if num_groups == 1:
            raise InputError("all images are in one group of duplicates or of the competition, which no fold may split")
        raise InputError(f"--num-folds {num_folds}: between 2 and {num_groups} folds are possible with these groups")
    keys = np.unique(strata(ordered, competition), return_inverse=True)[1]
    # Only the members of a group matter, not its name: number groups by their first image path.
    groups = pd.factorize(ordered["group"])[0]
    fold = _assign(keys, groups, num_folds, np.random.default_rng(seed))
    return pd.DataFrame({"image_path": ordered["image_path"], "fold": pd.array(fold, dtype="Int64")})


def _assign(keys: np.ndarray, groups: np.ndarray, num_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return a fold (N,) for each row, given its stratum and group number, both (N,) and counted from 0.

    Groups of several rows come first, largest first, each assigned to the fold with the smallest share of its strata;
    then single rows even out each stratum, and their remainders even out the sizes of the folds.
    """
    sizes, totals = np.bincount(groups), np.bincount(keys)
    fold, filled = np.full(len(keys), -1), np.zeros((num_folds, len(totals)), dtype=np.int64)
    by_group, ends = np.argsort(groups, kind="stable"), np.cumsum(sizes)
    shuffled = rng.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[group] == 1:
            break
        members = by_group[ends[group] - sizes[group] : ends[group]]
        of_group = keys[members]
        shares = (filled[:, of_group] / totals[of_group]).sum(axis=1)
        chosen = np.lexsort((filled.sum(axis=1), shares))[0]
        fold[members] = chosen
        np.add.at(filled[chosen], of_group, 1)
    single = rng.permutation(np.flatnonzero(fold < 0))
    single = single[np.argsort(keys[single], kind="stable")]
    parts = np.split(single, np.flatnonzero(np.diff(keys[single])) + 1) if len(single) else []
    # The strata that groups left most uneven come first, so that the later ones can compensate in fold size.
    for rows in sorted(parts, key=lambda rows: -int(np.ptp(filled[:, keys[rows[0]]]))):
        stratum = keys[rows[0]]
        emptiest = np.argsort(filled.sum(axis=1), kind="stable")
        # Each row goes to the fold with the fewest rows of this stratum so far; ties go to the smallest fold.
        heights = filled[emptiest, stratum] + np.arange(len(rows))[:, None]
        taken = emptiest[np.argsort(heights, axis=None, kind="stable")[: len(rows)] % num_folds]
        fold[rows] = taken
        filled[:, stratum] += np.bincount(taken, minlength=num_folds)
    return fold


def check_num_val(num_val: int, num_images: int) -> None:
    """Raise InputError if so many images cannot be held out."""
    if not 1 <= num_val <= num_images // 2:
        raise InputError(
            f"--num-val {num_val}: from 1 to {num_images // 2} of the {num_images:,} images can be held out"
        )


def holdout(labels: pd.DataFrame, competition: Competition, num_val: int, seed: int) -> pd.DataFrame:
    """Return folds with one validation fold of about `num_val` images; the rest is always in the training set.

    Raises InputError if `num_val` is below 1 or more than half of the images, or if every group is larger.
    """
    check_num_val(num_val, len(labels))
    ordered = labels.sort_values("image_path", ignore_index=True)
    keys, groups = pd.factorize(strata(ordered, competition))[0], pd.factorize(ordered["group"])[0]
    # Each stratum gets its share; groups are taken in random order if all their strata have room.
    room = np.diff(np.round(np.cumsum(np.bincount(keys)) * num_val / len(keys)), prepend=0)
    sizes, by_group = np.bincount(groups), np.argsort(groups, kind="stable")
    ends = np.cumsum(sizes)
    fold = pd.array([pd.NA] * len(ordered), dtype="Int64")
    order = np.random.default_rng(seed).permutation(len(sizes))
    for group in order:
        members = by_group[ends[group] - sizes[group] : ends[group]]
        needed = np.bincount(keys[members], minlength=len(room))
        if (needed <= room).all():
            room -= needed
            fold[members] = 0
    if pd.isna(fold).all():  # groups are too large for the shares: take the first that fits
        fitting = [group for group in order if sizes[group] <= num_val]
        if not fitting:
            raise InputError(f"--num-val {num_val}: the smallest group has {sizes.min()} images")
        fold[by_group[ends[fitting[0]] - sizes[fitting[0]] : ends[fitting[0]]]] = 0
    return pd.DataFrame({"image_path": ordered["image_path"], "fold": fold})


def official(labels: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the organiser's own split: "val" is fold 0, the rest is always in the training set. Raises InputError."""
    if "split" not in labels.columns or not (labels["split"] == "val").any():
        raise InputError(f"--split official: {name} has no official validation set; use --split kfold")
    fold = pd.Series(pd.NA, index=labels.index, dtype="Int64").mask(labels["split"] == "val", 0)
    folds = pd.DataFrame({"image_path": labels["image_path"], "fold": fold})
    return folds.sort_values("image_path", ignore_index=True)


def from_file(path: Path, labels: pd.DataFrame, complete: bool = True) -> pd.DataFrame:
    """Read a user's folds.csv.

    Raises InputError for repeated images, invalid fold numbers and, if it must be `complete`, missing images.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such folds file")
    table = parse_csv(path.read_bytes(), str(path))
    if list(table.columns) != ["image_path", "fold"]:
        raise InputError(f"{path}, line 1: the header is {','.join(table.columns)}, expected image_path,fold")
    for line, text in table["fold"].items():
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError(f"{path}, line {line}: fold {text!r} is not a number 0, 1, 2 ... (or empty)")
    repeated = table["image_path"][table["image_path"].duplicated()]
    if len(repeated):
        raise InputError(f"{path}, line {repeated.index[0]}: {repeated.iloc[0]!r} appears twice; remove one")
    known = set(labels["image_path"])
    folds = table[table["image_path"].isin(known)].copy()
    if len(folds) == 0 and len(table) and known:
        raise InputError(
            f"{path}: no row names a labelled image; it has {table['image_path'].iloc[0]!r}, images are called "
            f"{min(known)!r}"
        )
    missing = sorted(known - set(folds["image_path"]))
    if missing and complete:
        raise InputError(f"{path}: {missing[0]!r} and {len(missing) - 1} more images have no row; add them")
    folds["fold"] = folds["fold"].replace("", pd.NA).astype("Int64")
    numbers = sorted(folds["fold"].dropna().unique())
    if numbers != list(range(len(numbers))) or not numbers:
        raise InputError(f"{path}: folds are {numbers}, expected 0, 1, 2 ... without gaps")
    return folds.sort_values("image_path", ignore_index=True)


def split_groups(joined: pd.DataFrame) -> int:
    """Return how many groups have images both in a fold and outside it, which leaks duplicates into the score.

    joined: the label table with a column `fold`.
    """
    per_group = joined.assign(fold=joined["fold"].fillna(-1)).groupby("group")["fold"].nunique()
    return int((per_group > 1).sum())


def in_one_fold(joined: pd.DataFrame, competition: Competition) -> list[tuple[str, int]]:
    """Return the classes of a one-head competition whose images, two or more, are all held out by one fold, and it."""
    head = competition.heads[0]
    if len(competition.heads) > 1 or head.kind not in ("class", "ordinal") or competition.pretext:
        return []
    of_class = joined.assign(fold=joined["fold"].fillna(-1)).groupby(head.name)["fold"].agg(["min", "max", "size"])
    together = (of_class["min"] == of_class["max"]) & (of_class["min"] >= 0) & (of_class["size"] > 1)
    alone = of_class["min"][together]
    return [(head.classes[number], fold) for number, fold in zip(alone.index.tolist(), alone.tolist(), strict=True)]
