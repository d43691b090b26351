"""CIFAR-10: 32x32 photos of ten classes.

input/cifar10/ holds either Kaggle's files (train/1.png ..., trainLabels.csv, test/, sampleSubmission.csv; .jpg works
too, zipped or not, the .7z unpacked), or the authors' Python version, unpacked: data_batch_1 ... data_batch_5,
test_batch.
"""

from dataclasses import replace

import pandas as pd

from src.competitions.arrays import read_cifar_batch
from src.competitions.spec import Head
from src.competitions.tables import csv_competition
from src.core.errors import InputError
from src.core.reading import InputFiles

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]

_KAGGLE = csv_competition(
    name="cifar10",
    id_column="id",
    label_column="label",
    train_csv="trainLabels.csv",
    sample_submission="sampleSubmission.csv",
    image_size=(32, 32),
    hflip_ok=True,
    source="Put the files of kaggle.com/c/cifar-10 into input/cifar10/ and unpack train.7z and test.7z there, "
    "or unpack cifar-10-python.tar.gz there",
    kaggle="cifar-10",
)


def _has_batches(files: InputFiles) -> bool:
    return files.has(BATCHES[0])


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table of the five batches if they are present, otherwise of Kaggle's files."""
    if not _has_batches(files):
        heads = _KAGGLE.with_heads_of(files).heads
        if heads[0].classes != NAMES:
            unexpected = sorted(set(heads[0].classes) ^ set(NAMES))
            raise InputError(f"trainLabels.csv: the labels are not CIFAR-10's ten classes (see {unexpected[0]!r})")
        return _KAGGLE.read_train(files)
    tables = []
    for name in BATCHES:
        images, labels, location = read_cifar_batch(files, name)
        tables.append(pd.DataFrame({"image_path": files.add_pixels(name, images, location), "label": labels}))
    return pd.concat(tables, ignore_index=True)


def read_test(files: InputFiles) -> pd.DataFrame:
    """List the test images: those of test_batch numbered from 1, or Kaggle's in the order of its sample submission."""
    if not _has_batches(files):
        return _KAGGLE.read_test(files)
    images, _, location = read_cifar_batch(files, "test_batch")
    paths = files.add_pixels("test_batch", images, location)
    return pd.DataFrame({"image_path": paths, "id": [str(number + 1) for number in range(len(paths))]})


COMPETITION = replace(
    _KAGGLE,
    read_heads=None,
    heads=(Head(name="label", classes=NAMES),),
    read_train=read_train,
    read_test=read_test,
)
