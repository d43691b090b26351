"""MNIST: 28x28 grey images of handwritten digits.

input/mnist/ holds either the four idx files (train-images-idx3-ubyte.gz and so on, gzipped or not), or Kaggle's
digit-recognizer: train.csv (label, pixel0 ... pixel783), test.csv, sample_submission.csv.
"""

import pandas as pd

from src.competitions.arrays import find_first, line_number, parse_pixels, read_idx
from src.competitions.checking import check_sample
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import read_location

DIGIT = Head(name="digit", classes=tuple("0123456789"))
COLUMNS = ("ImageId", "Label")
PIXELS = [f"pixel{number}" for number in range(784)]


def _idx_images(files: InputFiles, part: str) -> list[str]:
    """Register the images of one idx file; return their image paths."""
    plain, dotted = f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte"
    images, location = read_idx(files, plain, f"{plain}.gz", dotted, f"{dotted}.gz")
    if images.ndim != 3:
        raise InputError(f"{location.file}: {images.ndim} dimensions, images have 3; download it again")
    return files.add_pixels(part, images, location)


def read_idx_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table of the two idx training files."""
    paths = _idx_images(files, "train")
    plain, dotted = "train-labels-idx1-ubyte", "train-labels.idx1-ubyte"
    labels, location = read_idx(files, plain, f"{plain}.gz", dotted, f"{dotted}.gz")
    if labels.shape != (len(paths),):
        raise InputError(f"{location.file}: {labels.size} labels for {len(paths)} images; download both again")
    return pd.DataFrame({"image_path": paths, "digit": labels.astype("int64")})


def read_idx_test(files: InputFiles) -> pd.DataFrame:
    """List the test images, numbered from 1."""
    paths = _idx_images(files, "t10k")
    return pd.DataFrame({"image_path": paths, "id": [str(number + 1) for number in range(len(paths))]})


def _is_kaggle(files: InputFiles) -> bool:
    return files.has("train.csv")


def read_train(files: InputFiles) -> pd.DataFrame:
    """Return the label table of train.csv if it exists, otherwise of the idx files."""
    if not _is_kaggle(files):
        return read_idx_train(files)
    name, location = find_first(files, "train.csv")
    data = read_location(location)
    values = parse_pixels(data, name, ["label", *PIXELS])
    paths = files.add_pixels("train", values[:, 1:].astype("uint8").reshape(-1, 28, 28), location)
    invalid = values[:, 0] > 9
    if invalid.any():
        row = int(invalid.argmax())
        raise InputError(f"{name}, line {line_number(row, data)}: label {values[row, 0]} is not a digit 0-9")
    return pd.DataFrame({"image_path": paths, "digit": values[:, 0]})


def read_test(files: InputFiles) -> pd.DataFrame:
    """List the test images in the sample submission's order; its ImageId is the row of test.csv, from 1."""
    if not _is_kaggle(files):
        return read_idx_test(files)
    name, location = find_first(files, "test.csv")
    values = parse_pixels(read_location(location), name, PIXELS)
    paths = files.add_pixels("test", values.astype("uint8").reshape(-1, 28, 28), location)
    sample = "sample_submission.csv"
    ids = check_sample(files.table(sample), COLUMNS, sample).tolist()
    by_id = {str(number + 1): path for number, path in enumerate(paths)}
    unknown = [key for key in ids if key not in by_id]
    if unknown:
        raise InputError(f"{sample}: id {unknown[0]!r} is not a row of {name} (1-{len(paths)}); download both again")
    return pd.DataFrame({"image_path": [by_id[key] for key in ids], "id": ids})


COMPETITION = Competition(
    name="mnist",
    heads=(DIGIT,),
    image_size=(28, 28),
    channels=1,
    hflip_ok=False,
    read_train=read_train,
    read_test=read_test,
    columns=COLUMNS,
    source="Put the four idx files of MNIST, or train.csv, test.csv and sample_submission.csv of Kaggle's "
    "digit-recognizer, into input/mnist/",
    kaggle="digit-recognizer",
)
