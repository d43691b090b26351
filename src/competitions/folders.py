"""A folder for each class: train/cat/1.jpg, train/dog/2.jpg; the class is the folder's name.

COMPETITION = folder_competition(name="pets", id_column="id", label_column="species")
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from src.competitions.reading_labels import in_order
from src.competitions.spec import Competition, Head, nearest
from src.competitions.tables import find_images, label_table, own_table, sample_ids
from src.core.errors import InputError
from src.core.reading import InputFiles


def folder_competition(
    *,
    name: str,
    id_column: str = "id",
    label_column: str = "label",
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

    With answer="probabilities" the classes are the sample submission's columns, in its order; `options` are other
    fields of Competition. read_table returns a table with the name of each image, without folders, in image_column,
    and its group in group_column: a driver or a patient that no fold may split.
    """
    columns = (id_column,) if options.get("answer") == "probabilities" else (id_column, label_column)
    options.setdefault("columns", columns)

    def images(files: InputFiles) -> pd.DataFrame:
        """Return image_path, folder and name of every image that lies in a class's folder."""
        depth, rows = len(PurePosixPath(train_folder).parts), []
        for path in files.images(train_folder):
            parts = PurePosixPath(path).parts
            if len(parts) < depth + 2:
                raise InputError(f"{path}: lies in no class's folder; move it to {train_folder}/CLASS/")
            rows.append((path, parts[depth], parts[-1]))
        if not rows:
            raise InputError(f"{train_folder}/: has no images in folders; expected {train_folder}/CLASS/IMAGE")
        return pd.DataFrame(rows, columns=["image_path", "folder", "name"])

    def read_heads(files: InputFiles) -> tuple[Head, ...]:
        classes = in_order(set(images(files)["folder"]))
        if options.get("answer") == "probabilities":
            wanted = tuple(files.table(sample_submission).columns)[1:]
            unknown = sorted(set(classes) - set(wanted))
            if len(wanted) > 1 and unknown:
                raise InputError(
                    f"{train_folder}/{unknown[0]}: is not one of {sample_submission}'s columns; "
                    f"{nearest(unknown[0], wanted)}"
                )
            classes = wanted if len(wanted) > 1 else classes
        return (Head(name="label", classes=classes),)

    def read_train(files: InputFiles) -> pd.DataFrame:
        found = images(files)
        ids = {text: number for number, text in enumerate(read_heads(files)[0].classes)}
        other = {}
        if group_column:
            found[group_column], other = _groups(files, found), {"group": group_column}
        targets = pd.DataFrame({"label": found["folder"].map(ids)})
        return label_table(found, found["image_path"].tolist(), targets, train_folder, other)

    def _groups(files: InputFiles, found: pd.DataFrame) -> "pd.Series[str]":
        if read_table is None:
            raise InputError(f"{name}: group_column {group_column!r} is a column of read_table's table; give both")
        table, _ = own_table(read_table, files, name, "")
        for column in (image_column, group_column):
            if column not in table.columns:
                raise InputError(f"{name}: read_table gives no column {column!r}; it has {', '.join(table.columns)}")
        groups = table.drop_duplicates(image_column).set_index(image_column)[group_column]
        return found["name"].map(groups).fillna("")

    def read_test(files: InputFiles) -> pd.DataFrame:
        ids = sample_ids(files, sample_submission, base.with_heads_of(files))
        return pd.DataFrame(
            {"image_path": find_images(files, test_folder, ids, sample_submission), "id": ids.to_numpy()}
        )

    base = Competition(
        name=name,
        read_heads=read_heads,
        image_size=image_size,
        hflip_ok=hflip_ok,
        read_train=read_train,
        read_test=read_test,
        source=source or f"Put {train_folder}/CLASS/, {test_folder}/ and {sample_submission} into input/{name}/",
        **options,
    )
    return base
