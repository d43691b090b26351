"""Check labels and images, write folds and the decoded image cache.

    python -m src.prepare --competition svhn
    python -m src.prepare --competition demo --num-folds 3        (tiny: seconds on a CPU)
    python -m src.prepare --only-test                             (new test images, for runs that are trained)
    python -m src.prepare --engine ray --address HOST:6379        (decode on all nodes of a Ray cluster)

Writes a snapshot, runs/<competition>/prepared/<id>/: labels.csv, test.csv, folds.csv, problems.csv, snapshot.json; and
runs/<competition>/cache/: the decoded images. Neither is changed afterwards: a run reads what it began with. The same
input and flags give the same snapshot; existing snapshots and caches are kept.
"""

from typing import TYPE_CHECKING

from src.config import PrepareConfig
from src.core import cli
from src.core.flags import check_apart, check_image_size, check_range

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from src.data.cache import ImageCache
    from src.data.decoding import Engine
    from src.data.labels import Tables
    from src.data.problems import Problem
    from src.data.relabel import Corrections


def main(config: PrepareConfig) -> None:
    """Prepare a competition, or list or prune what was prepared.

    Raises InputError for bad labels, too many unreadable test images, with --strict for any bad image, and while
    another process prepares the same competition.
    """
    from src.competitions.registry import load_competition
    from src.core.locking import delete_stale, locked
    from src.data.prepared import command, prepared_folder
    from src.data.shelf import prune, shelf

    for name, low in (("seed", 0), ("num_val", 1), ("num_processes", 1)):
        check_range(name.replace("_", "-"), getattr(config, name), low)
    check_range("max-pixels", config.max_pixels, 1, 10**12)
    check_range("max-unreadable", config.max_unreadable, 0, 1)
    folder = prepared_folder(config, load_competition(config.competition))
    if config.list:
        check_apart("--list", config, "prune")
        for entry in shelf(folder.parent, command(config, "prepare")):
            print(entry.describe())
        return
    with locked(folder, "is preparing this competition"):
        delete_stale(folder.parent / "cache")
        if config.prune:
            for path in prune(folder.parent, command(config, "prepare")):
                print(f"deleted: {path}")
            return
        _prepare(config)


def _prepare(config: PrepareConfig) -> None:
    from src.core.errors import InputError
    from src.core.flags import flags_of
    from src.core.malloc import return_freed_memory
    from src.data.balance import balance
    from src.data.building import build_caches, open_engine
    from src.data.crops import cropped_boxes, read_crops
    from src.data.prepared import PREPARE_FLAGS, prepared_folder
    from src.data.problems import Problem, image_warnings, misnamed, usable_labels
    from src.data.snapshot import facts_of, publish, set_current
    from src.data.split import make_folds, without_effect

    engine = open_engine(config)  # first: its mistakes are told before labels are read
    tables, corrections = _read(config)
    competition, files, folder = tables.competition, tables.files, prepared_folder(config, tables.competition)
    size = check_image_size(config.image_size or competition.image_size)
    cache = folder.parent / "cache"
    if config.only_test:
        _decode_test(config, engine, tables, cache)
        return
    return_freed_memory()
    train, test = build_caches(config, engine, tables, cache, size)
    for line in image_warnings(train, competition):
        print(line)
    labels = cropped_boxes(tables.labels, read_crops(config.crops), files) if config.crops else tables.labels
    files.forget()
    return_freed_memory()
    if not config.duplicates:
        print("duplicates are not searched (--no-duplicates): copies of an image may lie on both sides of a fold")
    corrected = corrections.paths if corrections else frozenset()
    labels, problems = usable_labels(labels, competition, train, cache if config.duplicates else None, corrected)
    problems += [Problem("train", path, "unlabelled", "skipped", "no label names it") for path in tables.unlabelled]
    problems += [Problem("test", path, "unlisted", "skipped", "not in the submission") for path in tables.unlisted]
    for line in misnamed(problems):
        print(line)
    report = _report(config, problems, test, folder)
    if len(labels) == 0:
        raise InputError(f"{files.root}: no image can be used; see {folder / 'problems.csv'}")

    for line in balance(labels, competition):
        print(line)
    folds = make_folds(config, labels, competition)
    written = {"labels.csv": labels, "test.csv": tables.test, "folds.csv": folds, "problems.csv": report}
    snapshot, is_new = publish(
        folder,
        written | ({"relabel.csv": corrections.table} if corrections else {}),
        competition=competition.name,
        heads=competition.heads,
        flags=flags_of(config, *(name for name in PREPARE_FLAGS if name not in without_effect(config))),
        train=facts_of(train),
        test=facts_of(test),
        relabelled=corrections.record if corrections else None,
    )
    set_current(folder, snapshot.id, size)
    sizes = folds["fold"].value_counts().sort_index()
    val = ", ".join(f"{number}: {count:,}" for number, count in sizes.items())
    print(f"{len(labels):,} usable labelled images; held out by fold: {val}")
    print(f"prepared: {folder / snapshot.id}{'' if is_new else ' (nothing has changed)'}")


def _read(config: PrepareConfig) -> "tuple[Tables, Corrections | None]":
    """Return the tables with corrected labels, and the corrections. Raises InputError for what can be told already."""
    from src.core.errors import InputError
    from src.data.labels import read_tables
    from src.data.relabel import relabelled
    from src.data.split import check_split, without_effect
    from src.metrics import check_handed_in

    tables = read_tables(config)
    competition = tables.competition
    check_handed_in(competition)  # fail now on an unknown metric, not after training
    check_split(config, tables.labels, competition)
    for line in without_effect(config).values():
        print(line)
    tables, corrections = relabelled(tables, config.relabel)
    if not competition.moves_ok and (config.crops or (config.resize or competition.resize) != "stretch"):
        raise InputError(f"--crops, --resize: would change the labels of {competition.name}; leave them out")
    _check(config, tables)
    if corrections:
        print(corrections.describe(config.relabel))
    return tables, corrections


def _check(config: PrepareConfig, tables: "Tables") -> None:
    """Check what can be checked before anything is decoded, and print notes. Raises InputError."""
    from src.data.labels import check_unreadable
    from src.data.problems import label_warnings

    files, paths = tables.files, tables.test["image_path"]
    missing = paths.iloc[files.located.locations(paths).missing()].tolist()
    check_unreadable(missing, len(tables.test), config.max_unreadable, f"{files.root}: is the test folder complete?")
    for line in [*files.notes, *label_warnings(tables.labels, tables.competition)]:
        print(line)


def _decode_test(config: PrepareConfig, engine: "Engine", tables: "Tables", folder: "Path") -> None:
    """Make the test cache of the size that runs were trained at. Raises InputError if too many cannot be read."""
    from src.data.building import build_test_cache
    from src.data.labels import check_unreadable
    from src.data.prepared import open_prepared
    from src.data.problems import reading_problems

    size = config.image_size or open_prepared(config).image_size
    test = build_test_cache(config, engine, tables, folder, size)
    paths = _unreadable(reading_problems("test", test, "answered from a black image"))
    check_unreadable(paths, len(test.readings), config.max_unreadable, "look at these images")
    print(f"test images: {len(test.readings):,}, {len(paths):,} of them answered from a black image")


def _report(config: PrepareConfig, problems: "list[Problem]", test: "ImageCache", folder: "Path") -> "pd.DataFrame":
    """Return all problems as a table, also written to prepared/problems.csv. Raises InputError if they stop prepare."""
    import pandas as pd

    from src.core.errors import InputError
    from src.core.writing import write_csv
    from src.data.labels import check_unreadable
    from src.data.problems import Problem, reading_problems, summary

    unreadable = reading_problems("test", test, "answered from a black image")
    problems = problems + unreadable
    report, file = pd.DataFrame(problems, columns=list(Problem._fields)), folder / "problems.csv"
    write_csv(file, report, for_people=True)
    if problems:
        print(f"problems: {summary(problems)}; see {file}")
    if problems and config.strict:
        first = problems[0]
        raise InputError(
            f"{first.image_path} ({first.split}): {first.problem}, {first.detail}; --strict stops here, all problems "
            f"are in {file}"
        )
    check_unreadable(_unreadable(unreadable), len(test.readings), config.max_unreadable, f"see {file}")
    return report


def _unreadable(problems: "list[Problem]") -> list[str]:
    """Return the paths of images that could not be read: those that end in zeros could."""
    from src.data.problems import ZERO_END

    return [problem.image_path for problem in problems if problem.problem != ZERO_END]


if __name__ == "__main__":
    cli.run(main, PrepareConfig, __doc__)
