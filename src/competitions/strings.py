"""Short texts in images, such as captchas and number plates: one head for each place.

COMPETITION = string_competition(name="plates", alphabet="0123456789ABC", length=(4, 8), train_csv="train.csv",
                                 id_column="image", label_column="text")
"""

from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from src.competitions.spec import Competition, Head
from src.competitions.tables import find_images, label_table, sample_ids
from src.core.errors import InputError
from src.core.reading import InputFiles


def string_competition(
    *,
    name: str,
    alphabet: str,
    length: int | tuple[int, int],
    id_column: str = "id",
    label_column: str = "label",
    train_csv: str = "",
    train_folder: str = "train",
    test_folder: str = "test",
    sample_submission: str = "sample_submission.csv",
    image_size: tuple[int, int] = (64, 192),
    source: str = "",
    **options: Any,
) -> Competition:
    """Return a competition whose answer is a text of characters of `alphabet`.

    length: of all texts, or the shortest and the longest one; shorter ones are padded. Without train_csv an image's
    name, without extension, is its text. `options` are other fields of Competition; images are never flipped.
    """
    shortest, longest = (length, length) if isinstance(length, int) else length
    if not 1 <= shortest <= longest or len(set(alphabet)) < len(alphabet) or len(alphabet) < 2:
        raise InputError(
            f"{name}: give length=N or (shortest, longest), from 1, and an alphabet of different characters"
        )
    padded = shortest < longest
    classes = tuple(alphabet) + ("",) * padded
    pad_class = len(alphabet) if padded else None

    def ids_of(text: str, where: str) -> list[int]:
        if not shortest <= len(text) <= longest:
            allowed = f"{shortest} to {longest}" if padded else f"{longest}"
            raise InputError(f"{where}: {text!r} has {len(text)} characters, expected {allowed}; correct it")
        for character in text:
            if character not in alphabet:
                raise InputError(f"{where}: {text!r} holds {character!r}, which is not in the alphabet; correct it")
        return [alphabet.index(character) for character in text] + [len(alphabet)] * (longest - len(text))

    def read_train(files: InputFiles) -> pd.DataFrame:
        if train_csv:
            table = files.table(train_csv)
            for column in (id_column, label_column):
                if column not in table.columns:
                    raise InputError(f"{train_csv}, line 1: no column {column!r}; it has {', '.join(table.columns)}")
            paths = find_images(files, train_folder, table[id_column], train_csv)
            wheres = [f"{train_csv}, line {line}" for line in table.index]
            texts = table[label_column].tolist()
        else:
            paths = list(files.images(train_folder))
            table, wheres = pd.DataFrame(index=range(len(paths))), paths
            texts = [PurePosixPath(path).stem for path in paths]
        if not paths:
            raise InputError(f"{train_csv or train_folder}: has no rows")
        ids = [ids_of(text, where) for text, where in zip(texts, wheres, strict=True)]
        targets = pd.DataFrame(ids, columns=[head.name for head in heads])
        return label_table(table, paths, targets, train_csv or train_folder, {})

    def read_test(files: InputFiles) -> pd.DataFrame:
        ids = sample_ids(files, sample_submission, competition)
        return pd.DataFrame(
            {"image_path": find_images(files, test_folder, ids, sample_submission), "id": ids.to_numpy()}
        )

    heads = tuple(Head(name=f"character{place + 1}", classes=classes) for place in range(longest))
    labels = train_csv or f"{train_folder}/TEXT.png"
    competition = Competition(
        name=name,
        heads=heads,
        pad_class=pad_class,
        image_size=image_size,
        hflip_ok=False,
        read_train=read_train,
        read_test=read_test,
        source=source or f"Put {labels}, {test_folder}/ and {sample_submission} into input/{name}/",
        **{"metric": "string_accuracy", "columns": (id_column, label_column), **options},
    )
    return competition
