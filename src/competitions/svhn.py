"""Tianchi street-view characters ("mchar"): house numbers of one to six digits, from SVHN.

input/svhn/ holds the downloads, zipped or unpacked: mchar_train.zip, mchar_val.zip, mchar_test_a.zip,
mchar_train.json, mchar_val.json, mchar_sample_submit_A.csv. The JSON maps each file name to lists with one value per
digit: label (0-9), left, top, width and height (pixels).
"""

import json
from typing import Any

import pandas as pd

from src.competitions.checking import check_sample
from src.competitions.json_text import line_of, parse_json
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import checked_name, read_location

MAX_DIGITS = 6
PAD_CLASS = 10  # pads numbers with fewer than six digits on the right
DIGITS = tuple(Head(name=f"digit{number}", classes=tuple("0123456789") + ("",)) for number in range(1, MAX_DIGITS + 1))
BOX_KEYS = ("left", "top", "width", "height")


def _digits(entry: Any, where: str) -> list[int]:
    labels = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{where}: has no list of digits under 'label'; correct it")
    if len(labels) > MAX_DIGITS:
        raise InputError(f"{where}: {len(labels)} digits, at most {MAX_DIGITS} are allowed; correct it")
    for digit in labels:
        if type(digit) is not int or not 0 <= digit <= 9:
            raise InputError(f"{where}: label {digit!r} is not a digit 0-9; correct it")
    return labels


def _boxes(entry: dict[str, Any], num_digits: int, where: str) -> str:
    columns = []
    for key in BOX_KEYS:
        values = entry.get(key, [])
        numbers = isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e9 for value in values)
        if not numbers or len(values) not in (0, num_digits):
            raise InputError(f"{where}: {key!r} is not a list of {num_digits} numbers; correct it")
        columns.append(values)
    complete = all(columns)
    return json.dumps([list(box) for box in zip(*columns, strict=True)]) if complete else "[]"


def _row(name: str, entry: Any, folder: str, where: str) -> list[Any]:
    """Return one row: image path, padded digits, boxes as JSON. Raises InputError that starts with `where`."""
    path = f"{folder}/{checked_name(name, where)}"
    digits = _digits(entry, where)
    return [path, *digits, *[PAD_CLASS] * (MAX_DIGITS - len(digits)), _boxes(entry, len(digits), where)]


def read_labels(files: InputFiles, json_name: str, folder: str, split: str) -> pd.DataFrame:
    """Return the label table of one official JSON file: digits padded on the right with PAD_CLASS, and boxes."""
    files.images(folder)
    data = read_location(files.find(json_name))
    rows = []
    for name, entry in parse_json(data, json_name).items():
        try:
            rows.append(_row(name, entry, folder, json_name))
        except InputError:  # finding a line is slow, so it is done only now, to raise the same error with its line
            rows.append(_row(name, entry, folder, f"{json_name}, line {line_of(data, name)}: {name!r}"))
    if not rows:
        raise InputError(f"{json_name}: has no entries; download it again")
    table = pd.DataFrame(rows, columns=["image_path", *(head.name for head in DIGITS), "boxes"])
    return table.assign(split=split)


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table of the official training and validation sets, with `split` "train" or "val"."""
    parts = [read_labels(files, f"mchar_{split}.json", f"mchar_{split}", split) for split in ("train", "val")]
    return pd.concat(parts, ignore_index=True)


def read_test(files: InputFiles) -> pd.DataFrame:
    """List the test images in the sample submission's order."""
    sample = "mchar_sample_submit_A.csv"
    files.images("mchar_test_a")
    ids = check_sample(files.table(sample), COMPETITION.columns, sample)
    paths = [f"mchar_test_a/{checked_name(name, f'{sample}, line {line}')}" for line, name in ids.items()]
    return pd.DataFrame({"image_path": paths, "id": ids.to_numpy()})


COMPETITION = Competition(
    name="svhn",
    heads=DIGITS,
    pad_class=PAD_CLASS,
    image_size=(64, 128),
    hflip_ok=False,
    read_train=read_train,
    read_test=read_test,
    columns=("file_name", "file_code"),
    metric="string_accuracy",
    source="Get the files named in mchar_data_list_0515.csv from Tianchi's street-view character competition "
    "(tianchi.aliyun.com, competition 531795) and put them into input/svhn/",
    links="mchar_data_list_0515.csv",
    upload="https://tianchi.aliyun.com/competition/entrance/531795 (sign in, Submit result)",
)
