"""Short texts in images, such as captchas and number plates: one head for each position.

COMPETITION = string_competition(name="plates", alphabet="0123456789ABC", length=(4, 8), train_csv="train.csv",
                                 id_column="image", label_column="text")
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from src.competitions.spec import Competition, Head
from src.competitions.tables import find_images, label_table, test_table
from src.core.csv_text import check_columns
from src.core.errors import InputError
from src.core.reading import InputFiles, nfc


@dataclass(frozen=True)
class _Strings:
    """Reads texts as class ids; the fields are `string_competition`'s."""

    alphabet: str
    shortest: int
    heads: tuple[Head, ...]
    train_csv: str
    train_folder: str
    id_column: str
    label_column: str
    boxes_column: str

    def ids_of(self, text: str, where: str) -> list[int]:
        """Return a class id for each position, padded. Raises InputError for another length or character."""
        longest = len(self.heads)
        if not self.shortest <= len(text) <= longest:
            allowed = f"{self.shortest} to {longest}" if self.shortest < longest else f"{longest}"
            raise InputError(f"{where}: {text!r} has {len(text)} characters, expected {allowed}; correct it")
        for character in text:
            if character not in self.alphabet:
                raise InputError(f"{where}: {text!r} holds {character!r}, which is not in the alphabet; correct it")
        return [self.alphabet.index(character) for character in text] + [len(self.alphabet)] * (longest - len(text))

    def read_train(self, files: InputFiles) -> pd.DataFrame:
        if self.train_csv:
            table = files.table(self.train_csv)
            named = filter(None, (self.id_column, self.label_column, self.boxes_column))
            check_columns(table, tuple(named), self.train_csv)
            paths = find_images(files, self.train_folder, table[self.id_column], self.train_csv)
            wheres = [f"{self.train_csv}, line {line}" for line in table.index]
            texts = table[self.label_column].tolist()
        else:
            paths = list(files.images(self.train_folder))
            table, wheres = pd.DataFrame(index=range(len(paths))), paths
            texts = [nfc(PurePosixPath(path).stem) for path in paths]
        source = self.train_csv or self.train_folder
        if not paths:
            raise InputError(f"{source}: has no rows")
        ids = [self.ids_of(text, where) for text, where in zip(texts, wheres, strict=True)]
        targets = pd.DataFrame(ids, columns=[head.name for head in self.heads])
        return label_table(table, paths, targets, source, {"boxes": self.boxes_column})


def string_competition(
    *,
    name: str,
    alphabet: str,
    length: int | tuple[int, int],
    id_column: str = "id",
    label_column: str = "label",
    boxes_column: str = "",
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
    name, without extension, is its text. boxes_column of train_csv: where each character is, see docs/strings.md.
    `options` are other fields of Competition; images are never flipped.
    """
    shortest, longest = (length, length) if isinstance(length, int) else length
    if not 1 <= shortest <= longest or len(set(alphabet)) < len(alphabet) or len(alphabet) < 2:
        raise InputError(
            f"{name}: give length=N or (shortest, longest), from 1, and an alphabet of different characters"
        )
    padded = shortest < longest
    classes = tuple(alphabet) + ("",) * padded
    heads = tuple(Head(name=f"character{position + 1}", classes=classes) for position in range(longest))
    reader = _Strings(alphabet, shortest, heads, train_csv, train_folder, id_column, label_column, boxes_column)
    labels = train_csv or f"{train_folder}/TEXT.png"
    competition = Competition(
        name=name,
        heads=heads,
        pad_class=len(alphabet) if padded else None,
        image_size=image_size,
        hflip_ok=False,
        read_train=reader.read_train,
        read_test=lambda files: test_table(files, sample_submission, test_folder, competition),
        source=source or f"Put {labels}, {test_folder}/ and {sample_submission} into input/{name}/",
        **{"metric": "string_accuracy", "columns": (id_column, label_column), **options},
    )
    return competition
