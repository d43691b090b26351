"""Synthetic house numbers from scikit-learn's handwritten digits, in the layout of the street-view competition.

`python -m src.make_demo` writes input/demo/. Images take their digits from six sets in turn; each set is a
group, so that validation folds contain no handwritten digit seen in training.
"""

import pandas as pd

from src.competitions import svhn
from src.competitions.spec import Competition
from src.core.reading import InputFiles

NUM_GROUPS = 6  # image number modulo NUM_GROUPS is its set of digits


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the street-view label table, with the set of digits as `group`."""
    table = svhn.read_train(files)
    numbers = table["image_path"].str.extract(r"(\d+)\.png$", expand=False).astype(int)
    return table.assign(group=(numbers % NUM_GROUPS).map("digits{}".format))


COMPETITION = Competition(
    name="demo",
    heads=svhn.DIGITS,
    pad_class=svhn.PAD_CLASS,
    image_size=(32, 96),
    hflip_ok=False,
    read_train=read_train,
    read_test=svhn.read_test,
    columns=svhn.COMPETITION.columns,
    metric="string_accuracy",
    source="Run `python -m src.make_demo` to make it",
)
