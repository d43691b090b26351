"""`--competition NAME:boxes`: where the string is in an image, learned from the boxes of NAME's characters.

The answer is the box around all of them: left, top, right and bottom, in shares of the image's width and height. Its
predictions, `python -m src.crops`, tell `prepare --crops` which part of each image to keep.
"""

import io
import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from src.competitions.metric import Metric
from src.competitions.spec import Competition, Head
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import Location, read_location

Image.MAX_IMAGE_PIXELS = None  # of headers alone, no pixel is decoded
ORIENTATION, SIDEWAYS = 0x0112, 5  # EXIF tag, and its values from which width and height are exchanged
WIDTH, HEIGHT = 256, 257  # TIFF tags
SIDES = ("left", "top", "right", "bottom")
HEADS = tuple(Head(name=side, kind="number", scale=(0.5, 0.25)) for side in SIDES)


def read_boxes(text: str, image_path: str) -> np.ndarray:
    """Return the boxes in a table's cell, which have left, top, width and height, as (n, 4) float: left, top, right and
    bottom. Raises InputError."""
    try:
        boxes = np.array(json.loads(text or "[]"), dtype=np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{image_path}: its boxes are not JSON, such as [[2, 0, 8, 13]]: {text[:60]!r}") from error
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise InputError(f"{image_path}: its boxes are not lists of left, top, width and height: {text[:60]!r}")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def size_of(location: Location) -> tuple[int, int] | None:
    """Return height and width of an upright image, from its file's header; None if it cannot be read."""
    try:
        with warnings.catch_warnings():  # of large images: nothing is decoded
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(read_location(location))) as image:
                exif = Image.Image.getexif(image)  # of the header; that of PNG files would decode all pixels
                turn = exif.get(ORIENTATION, 1)  # text or bytes in a malformed header
                lies = isinstance(turn, int) and turn >= SIDEWAYS
                width, height = image.size
                if isinstance(image, TiffImageFile):  # whose size Pillow may have turned already
                    width, height = image.tag_v2[WIDTH], image.tag_v2[HEIGHT]
                return (width, height) if lies else (height, width)
    except InputError:  # a damaged zip
        return None
    except (UnidentifiedImageError, OSError, RuntimeError, ValueError, SyntaxError):
        return None


def overlaps(target: np.ndarray, answers: np.ndarray, competition: Competition) -> np.ndarray:
    """Return the intersection over union of boxes and answers, (N,); both (N, 4): left, top, right, bottom."""
    start, end = np.maximum(target[:, :2], answers[:, :2]), np.minimum(target[:, 2:], answers[:, 2:])
    both = np.clip(end - start, 0, None).prod(axis=1)
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(axis=1) for box in (target, answers)]
    return np.asarray(both / np.maximum(areas[0] + areas[1] - both, 1e-9), dtype=np.float64)


def around(boxes: np.ndarray, size: tuple[int, int]) -> list[float]:
    """Return the box around all of (n, 4) boxes, in shares of an image of (height, width), within it."""
    corners = boxes / [size[1], size[0], size[1], size[0]]
    return np.clip([*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)], 0, 1).tolist()


def moved(boxes: np.ndarray, matrices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the boxes around moved boxes (B, 4), in shares of an image of `size`, as far as they are in it.

    matrices (B, 2, 3) lead from the pixels of the moved image to those of the original.
    """
    scale = np.array([size[1], size[0]])
    corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] * scale - 0.5  # (B, 4, 2); a pixel's centre is its number
    forward = np.linalg.inv(matrices[:, :, :2])
    after = (np.einsum("bij,bkj->bki", forward, corners - matrices[:, None, :, 2]) + 0.5) / scale
    return np.clip(np.concatenate([after.min(axis=1), after.max(axis=1)], axis=1), 0, 1).astype(boxes.dtype)


def read_train(files: InputFiles, original: Competition) -> pd.DataFrame:
    """Return the label table: a row for each image that has boxes and can be read. Raises InputError if none has."""
    labels = original.read_train(files)
    if "boxes" not in labels:
        raise InputError(f"{original.name}:boxes: the labels of {original.name} have no column boxes")
    files.locate(labels["image_path"])
    found = np.full((len(labels), 4), np.nan)
    locations = files.located.locations(labels["image_path"])
    for row, (path, text) in enumerate(zip(labels["image_path"], labels["boxes"], strict=True)):
        boxes, location = read_boxes(text, path), locations[row]
        size = size_of(location) if len(boxes) and location else None
        if size:  # files that cannot be read are reported when the original competition is prepared
            found[row] = around(boxes, size)
    table = labels.assign(**dict(zip(SIDES, found.T, strict=True)))
    wide = (found[:, 2:] > found[:, :2]).all(axis=1)  # NaN is not
    if not np.any(wide):
        raise InputError(f"{original.name}:boxes: no image of {original.name} has boxes and can be read")
    kept = [column for column in table.columns if column not in ("boxes", "answer", *original.targets)]
    return table[kept].iloc[np.flatnonzero(wide)].reset_index(drop=True)


def boxes_of(original: Competition) -> Competition:
    """Return the competition whose answer is the box around a string of another one."""
    return replace(
        original,
        name=f"{original.name}_boxes",
        folder=original.input_folder,
        heads=HEADS,
        read_heads=None,
        read_train=partial(read_train, original=original),
        columns=("id",),
        answer="heads",
        num_answers=1,
        none_class="",
        combine="mean",
        resize="stretch",
        metric=Metric(name="overlap", kinds=("number",), per_image=overlaps),
        head_weights=(),
        pad_class=None,
        class_names=(),
        moves_ok=False,
        follow=moved,
        hflip_ok=False,
        kaggle="",
        upload="",
    )
