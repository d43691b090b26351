"""The street-view competition at its full scale of 30,000 labelled images, made of those at hand by repetition.

    python -m src.prepare --competition benchmarks/street_view_30k.py --runs-dir runs/gpu

Its name is svhn too, so it wants a folder of its own for runs. For timing alone: a image and its copies are one
group, so the score is that of the images at hand.
"""

from dataclasses import replace

import pandas as pd

from src.competitions.svhn import COMPETITION as STREET
from src.core.reading import InputFiles

NUM_IMAGES = 30_000


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table repeated, each copy under a path of its own."""
    table = STREET.read_train(files).drop(columns="split")
    originals, copies = dict(files.located), []
    files.located.clear()
    for number in range(-(-NUM_IMAGES // len(table))):
        paths = [f"copy{number}/{path}" for path in table["image_path"]]
        files.located.update((copy, originals[path]) for copy, path in zip(paths, table["image_path"], strict=True))
        copies.append(table.assign(image_path=paths, group=table["image_path"]))
    return pd.concat(copies, ignore_index=True).head(NUM_IMAGES)


COMPETITION = replace(STREET, read_train=read_train)
