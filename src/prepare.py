"""Check labels and images, write folds and the decoded image cache.

    python -m src.prepare --competition svhn
    python -m src.prepare --competition demo --num-folds 3        (tiny: seconds on a CPU)

Writes runs/<competition>/prepared/: labels.csv, test.csv, folds.csv, problems.csv, competition.json, duplicates.json;
and runs/<competition>/cache/: train_<height>x<width>.npy and .json, test likewise. What is there already and still fits
is kept, caches of other sizes too.
"""

from src.config import PrepareConfig
from src.core import cli
from src.core.flags import check_image_size, check_range


def main(config: PrepareConfig) -> None:
    """Prepare a competition.

    Raises InputError for bad labels, too many unreadable test images, with --strict for any bad image, and while
    another process prepares the same competition.
    """
    from src.competitions.spec import load_competition
    from src.core.writing import locked

    for name, low in (("seed", 0), ("num_val", 1), ("num_processes", 1)):
        check_range(name.replace("_", "-"), getattr(config, name), low)
    check_range("max-pixels", config.max_pixels, 1, 10**12)
    check_range("max-unreadable", config.max_unreadable, 0, 1)
    folder = config.runs_dir / load_competition(config.competition).name / "prepared"
    with locked(folder, "is preparing this competition"):
        _prepare(config)


def _prepare(config: PrepareConfig) -> None:
    import pandas as pd

    from src.core.errors import InputError
    from src.core.flags import flags_of
    from src.core.records import write_record
    from src.core.writing import write_csv
    from src.data.labels import check_unreadable, read_tables
    from src.data.prepared import PREPARE_FLAGS, PreparedFacts, build_caches, facts_of
    from src.data.problems import Problem, label_warnings, reading_problems, summary, usable_labels
    from src.data.split import check_split, make_folds

    tables = read_tables(config)
    competition, files, root = tables.competition, tables.files, config.runs_dir / tables.competition.name
    folder, size = root / "prepared", check_image_size(config.image_size or competition.image_size)
    check_split(config, tables.labels, competition)
    missing = [path for path in tables.test["image_path"] if path not in files.located]
    check_unreadable(missing, len(tables.test), config.max_unreadable, f"{files.root}: is the test folder complete?")
    for line in label_warnings(tables.labels, competition):
        print(line)

    train, test = build_caches(config, tables, root / "cache", size)
    labels, problems = usable_labels(tables.labels, competition, train, folder)
    problems += [Problem("train", path, "unlabelled", "skipped", "no label names it") for path in tables.unlabelled]
    problems += [Problem("test", path, "unlisted", "skipped", "not in the submission") for path in tables.unlisted]
    unreadable = reading_problems("test", test, "answered from a black image")
    problems += unreadable
    write_csv(folder / "problems.csv", pd.DataFrame(problems, columns=list(Problem._fields)))
    if problems:
        print(f"problems: {summary(problems)}; see {folder / 'problems.csv'}")
    if problems and config.strict:
        first = problems[0]
        raise InputError(
            f"{first.image_path} ({first.split}): {first.problem}, {first.detail}; --strict stops here, all problems "
            f"are in {folder / 'problems.csv'}"
        )
    check_unreadable(
        [problem.image_path for problem in unreadable], len(test.readings), config.max_unreadable,
        f"see {folder / 'problems.csv'}",
    )  # fmt: skip
    if len(labels) == 0:
        raise InputError(f"{files.root}: no image can be used; see {folder / 'problems.csv'}")

    folds = make_folds(config, labels, competition)
    write_csv(folder / "labels.csv", labels)
    write_csv(folder / "test.csv", tables.test)
    write_csv(folder / "folds.csv", folds)
    flags = flags_of(config, *PREPARE_FLAGS)
    facts = PreparedFacts(
        heads=competition.heads, image_size=size, flags=flags, train=facts_of(train), test=facts_of(test)
    )
    write_record(folder / "competition.json", facts)
    sizes = folds["fold"].value_counts().sort_index()
    val = ", ".join(f"{number}: {count:,}" for number, count in sizes.items())
    print(f"{len(labels):,} usable labelled images; held out by fold: {val}")
    print(f"prepared: {folder}")


if __name__ == "__main__":
    cli.run(main, PrepareConfig, __doc__)
