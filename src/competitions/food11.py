"""food-11 (NTU machine learning 2020, homework 3): photos of eleven kinds of food.

input/food11/ holds food-11.zip, or the folders training/, validation/ and testing/, and optionally
sample_submission.csv. `training/3_100.jpg` has class 3; `testing/0007.jpg` has Id 7.
"""

import re

import pandas as pd

from src.competitions.checking import check_sample
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.reading import InputFiles

NAMES = (
    "Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat",
    "Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit",
)  # fmt: skip
CATEGORY = Head(name="category", classes=tuple(str(number) for number in range(len(NAMES))))
SAMPLE = "sample_submission.csv"


def _class_id(path: str) -> int:
    match = re.match(r"(\d+)_", path.rsplit("/", 1)[-1])
    if not match or int(match[1]) >= len(NAMES):
        raise InputError(f"{path}: the name must start with the class 0-{len(NAMES) - 1} and '_', as in 3_100.jpg")
    return int(match[1])


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table of training/ and validation/, with `split` "train" or "val"."""
    rows = [
        (path, _class_id(path), split)
        for folder, split in (("training", "train"), ("validation", "val"))
        for path in files.images(folder)
    ]
    return pd.DataFrame(rows, columns=["image_path", "category", "split"])


def read_test(files: InputFiles) -> pd.DataFrame:
    """List the test images in the sample submission's order, or in numeric order if there is none."""
    by_id: dict[str, str] = {}
    for path in files.images("testing"):
        stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if not stem.isascii() or not stem.isdigit():
            raise InputError(f"{path}: test images are named by number, as in 0007.jpg; rename or remove it")
        if str(int(stem)) in by_id:
            raise InputError(f"{path}: has the same number as {by_id[str(int(stem))]}; remove one")
        by_id[str(int(stem))] = path
    if files.has(SAMPLE):
        ids = list(check_sample(files.table(SAMPLE), COMPETITION.columns, SAMPLE))
    else:
        ids = sorted(by_id, key=int)
    if not set(ids) & set(by_id):
        raise InputError(f"{SAMPLE}: none of its ids (such as {ids[0]!r}) is the number of an image in testing/")
    return pd.DataFrame({"image_path": [by_id.get(key, f"testing/{key}.jpg") for key in ids], "id": ids})


COMPETITION = Competition(
    name="food11",
    heads=(CATEGORY,),
    image_size=(128, 128),
    hflip_ok=True,
    read_train=read_train,
    read_test=read_test,
    columns=("Id", "Category"),
    class_names=NAMES,
    source="Get food-11.zip from the course's Kaggle page (ml2020spring-hw3) and put it into input/food11/",
    kaggle="ml2020spring-hw3",
)
