"""The street-view competition at the full scale of its 30,000 training images, by repeating the available ones.

    python -m src.prepare --competition benchmarks/street_view_30k.py --runs-dir runs/gpu

It is also called svhn, so it needs a separate --runs-dir. For timing only: an image and its copies form one group, so
the score is that of the available images.
"""

from dataclasses import replace

import pandas as pd

from src.competitions.svhn import COMPETITION as STREET
from src.core.located import Located
from src.core.reading import InputFiles
from src.core.texts import Texts

NUM_IMAGES = 30_000


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the repeated label table; each copy has its own path."""
    table = STREET.read_train(files).drop(columns="split")
    rows, copies = files.located.locations(table["image_path"]).rows, []
    files.located = Located(files.found)
    for number in range(-(-NUM_IMAGES // len(table))):
        paths = [f"copy{number}/{path}" for path in table["image_path"]]
        files.located.add(Texts.of(paths), rows)
        copies.append(table.assign(image_path=paths, group=table["image_path"]))
    return pd.concat(copies, ignore_index=True).head(NUM_IMAGES)


COMPETITION = replace(STREET, read_train=read_train)
