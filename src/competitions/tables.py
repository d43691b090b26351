"""The commonest layout on Kaggle: train.csv with an id and a label, a folder of images, a sample submission.

A competition file of your own needs no more than this:

    from src.competitions.tables import csv_competition

    COMPETITION = csv_competition(name="leaves", id_column="image_id", label_column="species")
"""

from pathlib import PurePosixPath
from posixpath import splitext

import pandas as pd

from src.competitions.spec import Competition, Head, check_sample
from src.core.errors import InputError
from src.core.reading import InputFiles, nfc
from src.core.texts import Texts
from src.core.zips import checked_name


def _image_paths(files: InputFiles, folder: str, names: pd.Series, table: str) -> list[str]:
    """Return the image path of each name: an image below the folder, with or without its extension.

    Raises InputError, with the line that is the name's index, for a name that fits several images.
    """
    paths = files.images(folder)
    inside = Texts.of(nfc(path.removeprefix(f"{PurePosixPath(folder)}/")) for path in paths)
    keys = Texts.joined([inside, Texts.of(splitext(name)[0] for name in inside)])
    # "7" could be 7.jpg or 7.png: such an id must be written out.
    ambiguous = {keys[rows[0]] for rows in keys.repeated() if rows[-1] >= len(paths)}
    found = keys.find(nfc(checked_name(name, f"{table}, line {line}")) for line, name in names.items())
    image_paths = []
    for (line, name), row in zip(names.items(), found, strict=True):
        if ambiguous and nfc(name) in ambiguous:
            raise InputError(f"{table}, line {line}: {folder}/ has several images called {name!r}; add the extension")
        image_paths.append(paths[int(row) % len(paths)] if row >= 0 else f"{folder}/{name}")
    return image_paths


def _read_labels(files: InputFiles, train_csv: str, label_column: str, columns: list[str]) -> pd.DataFrame:
    """Return train_csv as text. Raises InputError if a column or a label is missing."""
    table = files.table(train_csv)
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{train_csv}, line 1: no column {column!r}; it has {', '.join(table.columns)}")
    if len(table) == 0:
        raise InputError(f"{train_csv}: has no rows")
    for column in (columns[0], label_column):
        broken = table.index[table[column].str.contains(r"[\x00-\x1f\x7f]", regex=True)]
        if len(broken):
            text = table[column][broken[0]]
            raise InputError(f"{train_csv}, line {broken[0]}: {column} {text!r} holds a control character; correct it")
    blank = table.index[table[label_column].str.strip() == ""]
    if len(blank):
        raise InputError(f"{train_csv}, line {blank[0]}: no value in column {label_column!r}; fill or remove the row")
    return table


def csv_competition(
    *,
    name: str,
    id_column: str,
    label_column: str,
    train_csv: str = "train.csv",
    train_folder: str = "train",
    test_folder: str = "test",
    sample_submission: str = "sample_submission.csv",
    image_size: tuple[int, int] = (224, 224),
    hflip_ok: bool = True,
    group_column: str = "",
    source: str = "",
) -> Competition:
    """Return a one-class competition read from CSV files.

    Class ids are the sorted order of the label texts; a submission holds those texts. Ids are image names below the
    folder, with or without extension. `group_column` names a column of train_csv (a patient, a site) that no fold may
    split. The sample submission's columns must be id_column and label_column.
    """

    def labels(files: InputFiles) -> pd.DataFrame:
        return _read_labels(files, train_csv, label_column, [id_column, label_column, *filter(None, [group_column])])

    def read_heads(files: InputFiles) -> tuple[Head, ...]:
        return (Head(name="label", classes=tuple(sorted(set(labels(files)[label_column])))),)

    def read_train(files: InputFiles) -> pd.DataFrame:
        table = labels(files)
        class_ids = {text: number for number, text in enumerate(sorted(set(table[label_column])))}
        image_paths = _image_paths(files, train_folder, table[id_column], train_csv)
        columns = {"image_path": image_paths, "label": table[label_column].map(class_ids).to_numpy()}
        again = pd.Series(image_paths).duplicated(keep=False)  # where: for an error about these
        columns["where"] = [f"{train_csv}, line {line}" * twice for line, twice in zip(table.index, again, strict=True)]
        if group_column:
            # A row with no group is a group of its own.
            columns["group"] = [text or f"line {line}" for line, text in table[group_column].items()]
        return pd.DataFrame(columns)

    def read_test(files: InputFiles) -> pd.DataFrame:
        ids = check_sample(files.table(sample_submission), (id_column, label_column), sample_submission)
        image_paths = _image_paths(files, test_folder, ids, sample_submission)
        return pd.DataFrame({"image_path": image_paths, "id": ids.to_numpy()})

    return Competition(
        name=name,
        read_heads=read_heads,
        image_size=image_size,
        hflip_ok=hflip_ok,
        read_train=read_train,
        read_test=read_test,
        columns=(id_column, label_column),
        source=source or f"Put {train_csv}, {train_folder}/, {test_folder}/ and {sample_submission} into input/{name}/",
    )
