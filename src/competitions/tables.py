"""The commonest layout on Kaggle: train.csv with an id and a label, a folder of images, a sample submission.

A competition file of your own needs no more than this (examples/competitions/ has one for each kind of answer):

    from src.competitions.tables import csv_competition

    COMPETITION = csv_competition(name="leaves", id_column="image_id", label_column="species")
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import splitext
from typing import Any

import numpy as np
import pandas as pd

from src.competitions.checking import check_options, check_sample
from src.competitions.layout import Kind
from src.competitions.reading_labels import Labels
from src.competitions.spec import Competition, Head
from src.core.csv_text import check_columns
from src.core.errors import InputError, own_code
from src.core.reading import InputFiles, nfc
from src.core.texts import Texts
from src.core.zips import checked_name

FindImages = Callable[[InputFiles, str, "pd.Series[str]", str], list[str]]  # see find_images


def find_images(files: InputFiles, folder: str, names: "pd.Series[str]", table: str) -> list[str]:
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


def sample_ids(files: InputFiles, sample: str, competition: Competition) -> "pd.Series[str]":
    """Return the ids of a sample submission in order, their index the line. Raises InputError if it does not fit."""
    return check_sample(files.table(sample), competition.submission_columns, sample)


def test_table(files: InputFiles, sample: str, folder: str, competition: Competition) -> pd.DataFrame:
    """Return image_path and id of a sample submission whose ids are image names below a folder."""
    ids = sample_ids(files, sample, competition.with_heads_of(files))
    return pd.DataFrame({"image_path": find_images(files, folder, ids, sample), "id": ids.to_numpy()})


def own_table(
    read_table: Callable[[InputFiles], pd.DataFrame], files: InputFiles, name: str, source: str
) -> tuple[pd.DataFrame, str]:
    """Return a competition's own table, as text, and what messages call it: `source`, or if tables were joined
    read_table, whose index is then the row from 1.

    Raises InputError for whatever its code raises.
    """
    with own_code(f"{name}: read_table"):
        table = read_table(files)
        texts = table.astype(object).where(table.notna(), "").map(str)
    if texts.index.is_unique and not (texts.index == 0).any():
        return texts, source
    return texts.set_axis(range(1, len(texts) + 1)), f"{name}: the table of read_table"


def label_table(
    table: pd.DataFrame, image_paths: list[str], targets: pd.DataFrame, source: str, columns: dict[str, str]
) -> pd.DataFrame:
    """Return what read_train returns; `columns` are those of group, answer, split, boxes and weight, if any.

    Raises InputError for a weight that is not a number.
    """
    found: dict[str, Any] = {
        "image_path": image_paths,
        **{str(name): column.to_numpy() for name, column in targets.items()},
    }
    again = pd.Series(image_paths).duplicated(keep=False)  # where: for an error about these
    found["where"] = [f"{source}, line {line}" * twice for line, twice in zip(table.index, again, strict=True)]
    if columns.get("group"):  # a row with no group is a group of its own
        found["group"] = [text or f"line {line}" for line, text in table[columns["group"]].items()]
    if columns.get("answer"):
        found["answer"] = table[columns["answer"]].to_numpy()
    if columns.get("split"):
        found["split"] = np.where(_held_out(table[columns["split"]]), "val", "train")
    if columns.get("boxes"):
        found["boxes"] = table[columns["boxes"]].to_numpy()
    if columns.get("weight"):
        numbers = pd.to_numeric(table[columns["weight"]], errors="coerce")
        wrong = table.index[~(np.isfinite(numbers) & (numbers >= 0))]
        if len(wrong):
            text = table[columns["weight"]][wrong[0]]
            raise InputError(f"{source}, line {wrong[0]}: weight {text!r} is not a number of 0 or more; correct it")
        found["weight"] = numbers.to_numpy(np.float64)
    return pd.DataFrame(found)


def _held_out(texts: "pd.Series[str]") -> "pd.Series[bool]":
    """Return which rows a split column holds out; true means what the column's name says, as in is_train."""
    words = texts.str.strip().str.lower()
    if "train" in str(texts.name).lower() and words.isin({"0", "1", "true", "false"}).all():
        return words.isin({"0", "false"})
    return words.isin({"val", "valid", "validation", "1", "true"})


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """Reads labels and ids from CSV files; the fields are `csv_competition`'s."""

    name: str
    id_column: str
    label_columns: tuple[str, ...]
    kind: Kind
    classes: tuple[str, ...]
    train_csv: str
    train_folder: str
    test_folder: str
    sample_submission: str
    read_table: Callable[[InputFiles], pd.DataFrame] | None
    image_column: str
    test_csv: str
    test_image_column: str
    image_name: str
    find: FindImages
    group_column: str
    split_column: str
    weight_column: str
    answer: str
    separator: str
    has_columns: bool  # whether the submission's columns were given

    def __post_init__(self) -> None:
        if bool(self.test_csv) != bool(self.test_image_column):
            raise InputError(f"{self.name}: test_csv and test_image_column belong together; give both or none")
        try:
            self.image_name.format("x")
        except (LookupError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.name}: image_name is {self.image_name!r}; give a text with {{}} in it, such as '{{}}.png'"
            ) from error

    @property
    def other(self) -> dict[str, str]:
        """The columns of group, answer, split and weight, "" for none."""
        columns = {"group": self.group_column, "split": self.split_column, "weight": self.weight_column}
        return columns | {"answer": self.id_column if self.image_column else ""}

    def named(self, texts: "pd.Series[str]") -> "pd.Series[str]":
        """Return the images' names; the very texts if they are names already, for the sake of memory."""
        return texts if self.image_name == "{}" else texts.map(self.image_name.format)

    def labels(self, files: InputFiles) -> Labels:
        if self.read_table:
            table, source = own_table(self.read_table, files, self.name, self.train_csv)
        else:
            table, source = files.table(self.train_csv), self.train_csv
        needed = [self.image_column or self.id_column, *self.label_columns, *filter(None, self.other.values())]
        return Labels(table, source, needed, self.label_columns, self.kind, self.separator, self.classes)

    def heads(self, files: InputFiles, labels: Labels) -> tuple[Head, ...]:
        """Return the heads that these labels name; classes in the order of the sample submission's columns, if any."""
        wanted: tuple[str, ...] = ()
        if self.answer == "probabilities":
            header = tuple(files.table(self.sample_submission).columns)
            wanted = header[1:] if len(header) > 2 else ()
        return labels.heads(wanted, self.sample_submission, must_fit=not self.has_columns)

    def read_heads(self, files: InputFiles) -> tuple[Head, ...]:
        return self.heads(files, self.labels(files))

    def read_train(self, files: InputFiles) -> pd.DataFrame:
        found = self.labels(files)
        names = self.named(found.table[self.image_column or self.id_column])
        paths = self.find(files, self.train_folder, names, found.source)
        return label_table(found.table, paths, found.targets(self.heads(files, found)), found.source, self.other)

    def read_test(self, files: InputFiles, competition: Competition) -> pd.DataFrame:
        ids = sample_ids(files, self.sample_submission, competition)
        rows = _test_rows(ids, competition, self.sample_submission)
        if self.test_csv:
            rows = _several_images(files, rows, self.test_csv, self.id_column, self.test_image_column)
        names = self.named(rows["image"])
        rows["image_path"] = self.find(files, self.test_folder, names, self.test_csv or self.sample_submission)
        columns = ["image_path", "id", *(["head"] if competition.answer == "rows" else [])]
        return rows[columns].reset_index(drop=True)


def csv_competition(
    *,
    name: str,
    id_column: str,
    label_column: str | tuple[str, ...],
    kind: Kind = "class",
    classes: tuple[str, ...] = (),
    train_csv: str = "train.csv",
    train_folder: str = "train",
    test_folder: str = "test",
    sample_submission: str = "sample_submission.csv",
    read_table: Callable[[InputFiles], pd.DataFrame] | None = None,
    image_column: str = "",
    test_csv: str = "",
    test_image_column: str = "",
    image_name: str = "{}",
    find: FindImages = find_images,
    image_size: tuple[int, int] = (224, 224),
    hflip_ok: bool = True,
    group_column: str = "",
    split_column: str = "",
    weight_column: str = "",
    source: str = "",
    **options: Any,
) -> Competition:
    """Return a competition read from CSV files.

    Classes are the labels' texts, sorted unless `classes` orders them. With kind "labels", one label column holds
    labels separated by `separator`, several hold 0 or 1 of a label each; otherwise several are several heads. Ids are
    names of images, perhaps without extension or turned into one by image_name; for `find` see parquet.py.

    Columns of train_csv: group_column, a patient or a site that no fold may split; split_column, "val" for the
    organiser's validation set (or 0 and 1, as in is_train); weight_column, an image's weight in the loss. read_table
    returns a table to use instead. If an id has several images, image_column names them, and test_image_column of
    test_csv those of the test set.

    `options` go to Competition. With answer="probabilities" the classes are the sample submission's columns, in its
    order (grades from the lowest up); if columns=(id, ...) are given, these are filled by name, see columns.py.
    """
    check_options(name, options, csv_competition)
    label_columns = (label_column,) if isinstance(label_column, str) else label_column
    options.setdefault("columns", _columns(id_column, label_columns, options.get("answer", "text")))
    reader = _Tables(
        name=name, id_column=id_column, label_columns=label_columns, kind=kind, classes=classes, train_csv=train_csv,
        train_folder=train_folder, test_folder=test_folder, sample_submission=sample_submission, read_table=read_table,
        image_column=image_column, test_csv=test_csv, test_image_column=test_image_column, image_name=image_name,
        find=find, group_column=group_column, split_column=split_column, weight_column=weight_column,
        answer=options.get("answer", "text"), separator=options.get("separator", " "),
        has_columns=len(options["columns"]) > 1,
    )  # fmt: skip
    competition = Competition(
        name=name, image_size=image_size, hflip_ok=hflip_ok, read_heads=reader.read_heads, read_train=reader.read_train,
        read_test=lambda files: reader.read_test(files, competition.with_heads_of(files)),
        source=source or f"Put {train_csv}, {train_folder}/, {test_folder}/ and {sample_submission} into input/{name}/",
        **options,
    )  # fmt: skip
    return competition


def _columns(id_column: str, label_columns: tuple[str, ...], answer: str) -> tuple[str, ...]:
    """Return the submission's columns, where they follow from the label table's."""
    if answer == "probabilities":
        return (id_column,)
    return ("row_id", "target") if answer == "rows" else (id_column, *label_columns)


def _test_rows(ids: "pd.Series[str]", competition: Competition, sample: str) -> pd.DataFrame:
    """Return id, image and, with a row for each head, head; the index is the sample submission's line."""
    rows = pd.DataFrame({"id": ids, "image": ids})
    if competition.answer == "rows":
        rows["head"] = ""
        for head in sorted(competition.heads, key=lambda head: len(head.name)):  # "0_skin_tone" is not of "tone"
            own = ids.str.endswith(f"_{head.name}")
            rows.loc[own, "head"] = head.name
            rows.loc[own, "image"] = ids[own].str.removesuffix(f"_{head.name}")
        unknown = ids[rows["head"] == ""]
        if len(unknown):
            names = ", ".join(head.name for head in competition.heads)
            raise InputError(f"{sample}, line {unknown.index[0]}: id {unknown.iloc[0]!r} ends with none of {names}")
    return rows


def _several_images(
    files: InputFiles, rows: pd.DataFrame, test_csv: str, id_column: str, image_column: str
) -> pd.DataFrame:
    """Return a row for each image of each id, as test_csv lists them. Raises InputError for an id without images."""
    table = files.table(test_csv)
    check_columns(table, (id_column, image_column), test_csv)
    listed = table.rename(columns={id_column: "key", image_column: "image"})[["key", "image"]]
    listed["line"] = listed.index
    rows = rows.rename(columns={"image": "key"})  # of a row for each head, the id without the head's name
    absent = rows[~rows["key"].isin(listed["key"])]
    if len(absent):
        raise InputError(f"{test_csv}: no image of id {absent['key'].iloc[0]!r}, which the sample submission asks for")
    return rows.merge(listed, on="key", how="left").set_index("line")
