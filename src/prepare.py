"""Check labels and images, write folds and the decoded cache.

    python -m src.prepare --competition svhn
    python -m src.prepare --competition demo --num-folds 3        (tiny: seconds on a CPU)

Writes runs/<competition>/prepared/: labels.csv, test.csv, folds.csv, problems.csv, competition.json, train.npy/json,
test.npy/json, duplicates.json. What is there already and still fits is kept.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import Competition, load_competition
from src.config import PrepareConfig, check_range
from src.core import cli
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.writing import locked, write_csv, write_json
from src.data import folds as folding
from src.data.cache import ImageCache, build_cache, open_cache
from src.data.duplicates import POLICY as DUPLICATES_POLICY
from src.data.duplicates import exact_duplicates, group_duplicates, near_duplicates
from src.data.labels import check_labels, check_test

PROBLEM_COLUMNS = ["split", "image_path", "problem", "action", "detail"]
Problem = tuple[str, str, str, str, str]


def _reading_problems(split: str, cache: ImageCache, action: str) -> list[Problem]:
    return [
        (split, path, reading.problem, action, reading.detail)
        for path, reading in zip(cache.image_paths, cache.readings, strict=True)
        if reading.problem
    ]


def _conflicts(labels: pd.DataFrame, targets: list[str], duplicates: list[list[int]]) -> tuple[set[int], list[Problem]]:
    """Judge exact copies: those with unlike labels are dropped, the others are kept in one group."""
    dropped: set[int] = set()
    problems: list[Problem] = []
    paths, values = labels["image_path"].tolist(), labels[targets].to_numpy()
    for rows in duplicates:
        same = bool((values[rows] == values[rows[0]]).all())
        if not same:
            dropped.update(rows)
        for row in rows[1:] if same else rows:
            kind, action = ("duplicate", "kept in one group") if same else ("conflicting labels", "skipped")
            twin = rows[1] if row == rows[0] else rows[0]
            problems.append(("train", paths[row], kind, action, f"same pixels as {paths[twin]}"))
    return dropped, problems


def _near_duplicates(cache: ImageCache, folder: Path) -> list[tuple[int, int]]:
    """Return pairs of rows, from duplicates.json where it is of this cache."""
    path = folder / "duplicates.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if (kept["policy"], kept["sha256"]) == (DUPLICATES_POLICY, cache.sha256):
            return [(one, other) for one, other in kept["pairs"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    pairs = near_duplicates(cache.readings, cache.images)
    write_json(path, {"policy": DUPLICATES_POLICY, "sha256": cache.sha256, "pairs": pairs})
    return pairs


def _checked_train(
    labels: pd.DataFrame, competition: Competition, cache: ImageCache, folder: Path
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the labels of usable images with their `group`, and the problems."""
    problems = _reading_problems("train", cache, "skipped")
    duplicates = exact_duplicates(cache.readings)
    dropped, conflicts = _conflicts(labels, competition.targets, duplicates)
    problems += conflicts
    near = _near_duplicates(cache, folder)
    paths = labels["image_path"].tolist()
    exact = {(same[0], row) for same in duplicates for row in same[1:]}
    exact_rows = {row for pair in exact for row in pair}
    for one, other in near:
        if not (one in exact_rows and other in exact_rows):
            problems.append(("train", paths[other], "near duplicate", "kept in one group", f"looks like {paths[one]}"))
    given = labels["group"].astype(str).tolist() if "group" in labels.columns else None
    group = group_duplicates(given, [*exact, *near], len(labels))
    usable = np.array([not reading.problem for reading in cache.readings]) & ~np.isin(
        np.arange(len(labels)), [*dropped]
    )
    return labels.assign(group=group)[usable].reset_index(drop=True), problems


def _fold(config: PrepareConfig, labels: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    if config.folds:
        folds = folding.from_file(config.folds, labels)
    elif config.split == "holdout":
        folds = folding.holdout(labels, competition, config.num_val, config.seed)
    elif config.split == "official":
        folds = folding.official(labels, competition.name)
    else:
        folds = folding.kfold(labels, competition, config.num_folds, config.seed)
    leaks = folding.split_groups(folds, labels)
    if leaks:
        print(f"warning: {leaks} groups of duplicates lie on both sides of a fold; its score will be too high by them")
    return folds


def _read(config: PrepareConfig) -> tuple[Competition, InputFiles, pd.DataFrame, pd.DataFrame]:
    competition = load_competition(config.competition)
    files = InputFiles(config.input_dir / competition.name, competition.source)
    competition = competition.with_heads_of(files)
    # Sorted: neither the cache nor a group's name may depend on the order in which the organiser lists images.
    labels = check_labels(competition.read_train(files), competition).sort_values("image_path", ignore_index=True)
    train_located = dict(files.located)
    test = check_test(competition.read_test(files), competition)
    unlabelled = set(train_located) - set(labels["image_path"]) - set(test["image_path"])
    labels.attrs["unlabelled"] = sorted(unlabelled)
    labels.attrs["unlisted"] = sorted(set(files.located) - set(train_located) - set(test["image_path"]))
    return competition, files, labels, test


def main(config: PrepareConfig) -> None:
    """Prepare a competition.

    Raises InputError for bad labels, while another process prepares the same, or with --strict for any bad image.
    """
    folder = config.runs_dir / load_competition(config.competition).name / "prepared"
    with locked(folder, "is preparing this competition"):
        _prepare(config, folder)


def _prepare(config: PrepareConfig, folder: Path) -> None:
    competition, files, labels, test = _read(config)
    size = config.image_size or competition.image_size
    if min(size) < 8 or max(size) > 4096:
        raise InputError(f"--image-size {size[0]} {size[1]}: height and width from 8 to 4096 pixels are possible")
    check_range("seed", config.seed, 0)
    check_range("num-val", config.num_val, 1)
    check_range("max-pixels", config.max_pixels, 1, 10**12)
    check_range("num-processes", config.num_processes, 1)
    processes = config.num_processes or os.cpu_count() or 1
    caches = {}
    for split, paths in (("train", labels["image_path"].tolist()), ("test", test["image_path"].tolist())):
        built = build_cache(folder, split, paths, files, size, num_processes=processes, max_pixels=config.max_pixels)
        caches[split] = open_cache(folder, split)
        print(
            f"{split}: {len(paths):,} images at {size[0]}x{size[1]}, " + ("decoded" if built else "cache is up to date")
        )
    problems = [("train", path, "unlabelled", "skipped", "no label names it") for path in labels.attrs["unlabelled"]]
    problems += [("test", path, "unlisted", "skipped", "not in the submission") for path in labels.attrs["unlisted"]]
    labels, found = _checked_train(labels, competition, caches["train"], folder)
    problems += found + _reading_problems("test", caches["test"], "answered from a black image")
    write_csv(folder / "problems.csv", pd.DataFrame(problems, columns=PROBLEM_COLUMNS))
    _report_problems(problems, config, folder)
    if len(labels) == 0:
        raise InputError(f"{files.root}: no image can be used; see {folder / 'problems.csv'}")
    folds = _fold(config, labels, competition)
    write_csv(folder / "labels.csv", labels)
    write_csv(folder / "test.csv", test)
    write_csv(folder / "folds.csv", folds)
    write_json(folder / "competition.json", {"heads": [asdict(head) for head in competition.heads]})
    sizes = folds["fold"].value_counts().sort_index()
    val = ", ".join(f"{number}: {count:,}" for number, count in sizes.items())
    print(f"{len(labels):,} usable labelled images; held out by fold: {val}")
    print(f"prepared: {folder}")


def _report_problems(problems: list[Problem], config: PrepareConfig, folder: os.PathLike[str]) -> None:
    if not problems:
        return
    counts = pd.Series([f"{split} {kind}" for split, _, kind, _, _ in problems]).value_counts()
    print(
        "problems: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + f"; see {folder}/problems.csv"
    )
    if config.strict:
        split, path, kind, _, detail = problems[0]
        raise InputError(f"{path} ({split}): {kind}, {detail}; --strict stops here, all are in {folder}/problems.csv")


if __name__ == "__main__":
    cli.run(main, PrepareConfig, __doc__)
