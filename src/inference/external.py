"""Predictions of another tool, which may join a blend: `--external FILE.npz`, checked like our own.

The file holds image_path (M,) and probabilities (M, num_outputs): the heads side by side, of classes one probability
each. It has a row for each labelled image that has a fold, predicted by a model that was not trained on it, and a row
for each test image; other rows are not used.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.writing import sha256_of
from src.inference.answers import SUM_TOLERANCE
from src.inference.ensemble import OutOfFold
from src.inference.quality import check_one_image_each
from src.inference.submission import Answer


@dataclass(frozen=True, kw_only=True)
class External:
    """A file's rows, by image path."""

    path: Path
    table: pd.Series  # row number by image path
    probabilities: np.ndarray  # (M, num_outputs) float32

    def of(self, image_paths: Sequence[str], what: str) -> np.ndarray:
        """Return (N, num_outputs) of these images. Raises InputError if one is missing."""
        missing = [path for path in image_paths if path not in self.table.index]
        if missing:
            raise InputError(
                f"--external {self.path}: has no row for {len(missing):,} of {len(image_paths):,} {what} images, such "
                f"as {missing[0]}; predict them too"
            )
        chosen: np.ndarray = self.probabilities[self.table.loc[list(image_paths)].to_numpy()]
        return chosen


def read_external(path: Path, competition: Competition) -> External:
    """Read and check a file. Raises InputError that names the file, and the image of a wrong row."""
    where = f"--external {path}"
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            paths, probabilities = arrays["image_path"].astype(str), arrays["probabilities"]
    except KeyError as error:
        raise InputError(f"{where}: has no array called image_path or probabilities; see docs/blending.md") from error
    except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{where}: is not a complete .npz file ({(str(error) or 'empty').splitlines()[0]})") from error
    wanted = (paths.size, competition.layout.num_outputs)
    if paths.ndim != 1 or probabilities.shape != wanted or probabilities.dtype.kind != "f":
        raise InputError(
            f"{where}: probabilities are {probabilities.dtype} {probabilities.shape}; floats {wanted} are needed, a "
            "row for each image_path and the heads side by side"
        )
    table = pd.Series(range(len(paths)), index=paths)
    if table.index.has_duplicates:
        raise InputError(f"{where}: {table.index[table.index.duplicated()][0]} appears twice; remove one row")
    wrong = _wrong_rows(probabilities, competition)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{where}: row {row}, {paths[row]}: is not finite, or not probabilities that sum to 1 within each head"
        )
    return External(path=path, table=table, probabilities=_clipped(probabilities, competition))


def _wrong_rows(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (M,) whether a row cannot be predictions of the competition's heads."""
    wrong = ~np.isfinite(probabilities).all(axis=1)
    for head, part in zip(competition.heads, competition.layout.split(probabilities), strict=True):
        if head.kind != "number":
            wrong |= (part < -SUM_TOLERANCE).any(axis=1) | (part > 1 + SUM_TOLERANCE).any(axis=1)
        if head.kind == "class":
            wrong |= np.abs(part.sum(axis=1) - 1) > SUM_TOLERANCE
    return wrong


def _clipped(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (M, num_outputs) float32 with probabilities in [0, 1]: rounding may have left -1e-7, which has no log."""
    parts = zip(competition.heads, competition.layout.split(probabilities.astype(np.float32)), strict=True)
    return np.concatenate([part if head.kind == "number" else part.clip(0, 1) for head, part in parts], axis=1)


def external_out_of_fold(external: External, like: OutOfFold) -> OutOfFold:
    """Return the file's predictions for the images that a run was scored on. Raises InputError if one is missing."""
    check_one_image_each(f"--external {external.path}", like.labels)
    probabilities = external.of(like.labels["image_path"].tolist(), "held-out")
    return replace(like.with_probabilities(probabilities), views=(), optimistic=False)


def external_answer(external: External, image_paths: Sequence[str], weight: float) -> Answer:
    """Return the file's predictions for the test images. Raises InputError if one is missing."""
    facts = {"external": str(external.path), "sha256": sha256_of(external.path), "weight": weight}
    return Answer(probabilities=external.of(image_paths, "test"), num_unreadable=0, facts=facts)
