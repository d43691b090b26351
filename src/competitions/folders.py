"""A folder for each class: train/cat/1.jpg, train/dog/2.jpg; the class is the folder's name.

COMPETITION = folder_competition(name="pets", id_column="id", label_column="species")
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from src.competitions.checking import check_options
from src.competitions.reading_labels import in_order
from src.competitions.spec import Competition, Head
from src.competitions.tables import label_table, own_table, test_table
from src.core.errors import InputError, nearest
from src.core.reading import InputFiles, nfc


@dataclass(frozen=True, kw_only=True)
class _Folders:
    """Reads the labels of a folder for each class; the fields are `folder_competition`'s."""

    name: str
    train_folder: str
    sample_submission: str
    classes: tuple[str, ...]  # in order; default: those of the sample submission's columns, or all folders
    has_probabilities: bool  # whether the columns of the sample submission may be the classes
    must_fit: bool  # whether they must be
    read_table: Callable[[InputFiles], pd.DataFrame] | None
    image_column: str
    group_column: str

    def images(self, files: InputFiles) -> pd.DataFrame:
        """Return image_path, folder and name of every image in a class's folder. Raises InputError for others."""
        depth, rows = len(PurePosixPath(self.train_folder).parts), []
        for path in files.images(self.train_folder):
            parts = PurePosixPath(path).parts
            if len(parts) < depth + 2:
                raise InputError(f"{path}: lies in no class's folder; move it to {self.train_folder}/CLASS/")
            rows.append((path, nfc(parts[depth]), parts[-1]))
        if not rows:
            where = f"{self.train_folder}/CLASS/IMAGE"
            raise InputError(f"{self.train_folder}/: has no images in folders; expected {where}")
        return pd.DataFrame(rows, columns=["image_path", "folder", "name"])

    def read_heads(self, files: InputFiles) -> tuple[Head, ...]:
        found = in_order(set(self.images(files)["folder"]))
        known, where, must_fit = self.classes, "the competition's classes", True
        if not known and self.has_probabilities:
            columns = tuple(files.table(self.sample_submission).columns)[1:]
            known, where = columns if len(columns) > 1 else (), f"{self.sample_submission}'s columns"
            must_fit = self.must_fit
        unknown = sorted(set(found) - set(map(nfc, known)))
        if known and unknown and must_fit:
            raise InputError(f"{self.train_folder}/{unknown[0]}: is not one of {where}; {nearest(unknown[0], known)}")
        return (Head(name="label", classes=found if unknown or not known else known),)

    def read_train(self, files: InputFiles) -> pd.DataFrame:
        found = self.images(files)
        ids = {nfc(text): number for number, text in enumerate(self.read_heads(files)[0].classes)}
        other = {}
        if self.group_column:
            found[self.group_column], other = self.groups(files, found["name"]), {"group": self.group_column}
        targets = pd.DataFrame({"label": found["folder"].map(ids)})
        return label_table(found, found["image_path"].tolist(), targets, self.train_folder, other)

    def groups(self, files: InputFiles, names: "pd.Series[str]") -> "pd.Series[str]":
        """Return the group of each image, "" for none. Raises InputError if read_table does not give it."""
        if self.read_table is None:
            raise InputError(
                f"{self.name}: group_column {self.group_column!r} is a column of read_table's table; give both"
            )
        table, _ = own_table(self.read_table, files, self.name, "")
        for column in (self.image_column, self.group_column):
            if column not in table.columns:
                known = ", ".join(table.columns)
                raise InputError(f"{self.name}: read_table gives no column {column!r}; it has {known}")
        pairs = pd.DataFrame({"name": table[self.image_column].map(nfc), "group": table[self.group_column]})
        pairs = pairs.drop_duplicates()
        twice = pairs["name"][pairs["name"].duplicated()]
        if len(twice):
            raise InputError(
                f"{self.name}: read_table gives {twice.iloc[0]} two groups; names must be those of one image"
            )
        found = names.map(nfc).map(pairs.set_index("name")["group"])
        if found.isna().all():
            raise InputError(
                f"{self.name}: no image has a group: read_table's {self.image_column} has names such as "
                f"{pairs['name'].iloc[0] if len(pairs) else '(none)'}, the images are called {names.iloc[0]}"
            )
        if found.isna().any():
            files.notes.append(
                f"note: {int(found.isna().sum()):,} of {len(found):,} images have no {self.group_column}"
            )
        return found.fillna("")


def folder_competition(
    *,
    name: str,
    id_column: str = "id",
    label_column: str = "label",
    classes: tuple[str, ...] = (),
    train_folder: str = "train",
    test_folder: str = "test",
    sample_submission: str = "sample_submission.csv",
    image_size: tuple[int, int] = (224, 224),
    hflip_ok: bool = True,
    read_table: Callable[[InputFiles], pd.DataFrame] | None = None,
    image_column: str = "",
    group_column: str = "",
    source: str = "",
    **options: Any,
) -> Competition:
    """Return a one-class competition whose training images lie in a folder for each class.

    Classes are sorted unless `classes` orders them.
    With answer="probabilities" the classes are the sample submission's columns, in its order; `options` are other
    fields of Competition. read_table returns a table with the name of each image, without folders, in image_column,
    and its group in group_column: a driver or a patient that no fold may split.
    """
    check_options(name, options, folder_competition)
    columns = (id_column,) if options.get("answer") == "probabilities" else (id_column, label_column)
    options.setdefault("columns", columns)

    reader = _Folders(
        name=name,
        train_folder=train_folder,
        sample_submission=sample_submission,
        classes=tuple(classes),
        has_probabilities=options.get("answer") == "probabilities",
        must_fit=len(options["columns"]) == 1,
        read_table=read_table,
        image_column=image_column,
        group_column=group_column,
    )
    competition = Competition(
        name=name,
        read_heads=reader.read_heads,
        image_size=image_size,
        hflip_ok=hflip_ok,
        read_train=reader.read_train,
        read_test=lambda files: test_table(files, sample_submission, test_folder, competition),
        source=source or f"Put {train_folder}/CLASS/, {test_folder}/ and {sample_submission} into input/{name}/",
        **options,
    )
    return competition
