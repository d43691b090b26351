"""crops.csv: the part of each image that `prepare --crops` keeps, in shares of its width and height.

`python -m src.crops` writes it from a run that predicts boxes. Images that it does not name are kept whole.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.competitions.boxes import SIDES, read_boxes, size_of
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import Location

SMALLEST = 0.02  # side of a crop, a share of the image's
Crop = tuple[float, float, float, float]  # left, top, right and bottom, shares of the width and height


@dataclass(frozen=True, kw_only=True)
class Crops:
    """The crops of a file, by image path, and a hash of it."""

    of_image: dict[str, Crop]
    sha256: str


def read_crops(path: Path) -> Crops:
    """Read crops.csv. Raises InputError, with the line, for a wrong header or number, or an image named twice."""
    if not path.is_file():
        raise InputError(f"--crops {path}: no such file")
    data = path.read_bytes()
    table = parse_csv(data, str(path))
    if tuple(table.columns) != ("image_path", *SIDES):
        raise InputError(
            f"{path}, line 1: the columns are {', '.join(table.columns)}, not image_path, {', '.join(SIDES)}"
        )
    found: dict[str, Crop] = {}
    for line, image_path, *texts in table.itertuples():
        where = f"{path}, line {line}"
        if image_path in found:
            raise InputError(f"{where}: {image_path!r} appears twice; remove one")
        found[image_path] = _crop(texts, where)
    return Crops(of_image=found, sha256=hashlib.sha256(data).hexdigest())


def _crop(texts: Sequence[str], where: str) -> Crop:
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError as error:
        raise InputError(f"{where}: {', '.join(texts)} are not four numbers; correct it") from error
    inside = all(math.isfinite(side) and 0 <= side <= 1 for side in (left, top, right, bottom))
    if not inside or left >= right or top >= bottom:
        raise InputError(
            f"{where}: {', '.join(texts)} is not a valid crop; give left < right and top < bottom, each from 0 to "
            "1, as shares of the image's width and height"
        )
    return left, top, right, bottom


def pixels_of(crop: Crop, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a crop in pixels of an image of (height, width), at least one of each."""
    height, width = size
    left, top = min(width - 1, math.floor(crop[0] * width)), min(height - 1, math.floor(crop[1] * height))
    return left, top, max(left + 1, math.ceil(crop[2] * width)), max(top + 1, math.ceil(crop[3] * height))


def cut(image: np.ndarray, crop: Crop | None) -> np.ndarray:
    """Return the part of (H, W, C) that a crop names, at least one pixel of it; the whole without a crop."""
    if crop is None:
        return image
    left, top, right, bottom = pixels_of(crop, (image.shape[0], image.shape[1]))
    return image[top:bottom, left:right]


def cropped_boxes(labels: pd.DataFrame, crops: Crops, files: InputFiles) -> pd.DataFrame:
    """Return a label table whose column boxes, if it has one, is in pixels of the parts of images that are kept."""
    if "boxes" not in labels:
        return labels
    texts, locations = labels["boxes"].tolist(), files.located.locations(labels["image_path"])
    for row, path in enumerate(labels["image_path"]):
        crop, location, boxes = crops.of_image.get(path), locations[row], read_boxes(texts[row], path)
        size = size_of(location) if crop and location and len(boxes) else None
        if crop and size:  # otherwise the image is whole, or cannot be used
            left, top, _, _ = pixels_of(crop, size)
            texts[row] = json.dumps([[x - left, y - top, end - x, low - y] for x, y, end, low in boxes.tolist()])
    return labels.assign(boxes=texts)


class CroppedLocations(Sequence[Location | None]):
    """The locations of images with their crops, each made when it is asked for."""

    def __init__(self, locations: Sequence[Location | None], image_paths: Sequence[str], crops: Crops) -> None:
        self.locations, self.image_paths, self.crops = locations, image_paths, crops

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        location = self.locations[place]
        return location and location._replace(crop=self.crops.of_image.get(self.image_paths[place]))


def widened(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Return boxes (N, 4) in shares of their images with a margin, a share of their own size, on each side.

    They end with the image, and are at least SMALLEST wide and high: a network may put the right side left of the left.
    """
    start, end = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    centre, half = (start + end) / 2, np.maximum((end - start) / 2 * (1 + 2 * margin), SMALLEST / 2)
    centre = np.clip(centre, SMALLEST / 2, 1 - SMALLEST / 2)
    return np.concatenate([np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)], axis=1)
