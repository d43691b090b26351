"""Out-of-fold and test predictions of runs, joined by image path."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.runtime import to_device
from src.core.writing import sha256_of, write_arrays
from src.data.loader import INFERENCE_BATCH_SIZE, Loader
from src.data.prepared import Prepared
from src.inference.predictor import Predictor
from src.metrics import exact_matches
from src.runs.run import Run, TrainedFold
from src.runs.versions import code_version


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """A run's predictions for the images it was not trained on: rows of the label table, in its order."""

    competition: Competition
    labels: pd.DataFrame  # image_path, targets, fold, and the label table's other columns
    probabilities: np.ndarray  # (N, num_outputs) float32
    target: np.ndarray  # (N, num_heads) int64
    right: np.ndarray  # (N,) bool, exact match over all heads
    complete: bool  # whether every held-out image of every fold is there
    optimistic: bool  # whether the epoch was chosen on these very images


def out_of_fold(run: Run, folds: tuple[int, ...] | None = None, tta: bool = True) -> OutOfFold:
    """Join the folds' out-of-fold predictions with the labels.

    Raises InputError if a fold is missing (unless `folds` leaves it out), does not hold exactly the images that
    folds.csv gives it, or shares an image with another.
    """
    trained, competition = run.trained(folds), run.competition
    expected = sorted(int(number) for number in run.folds["fold"].dropna().unique())
    present = sorted(fold.number for fold in trained)
    if folds is None and present != expected:
        missing = [number for number in expected if number not in present]
        raise InputError(
            f"{run.folder}: fold {', '.join(map(str, missing))} is not trained to its end, so the score would miss "
            f"images; run {run.train_command(missing[0])}, or score part of the data with --folds "
            f"{' '.join(map(str, present))}"
        )
    oofs = [fold.oof() for fold in trained]
    for fold, oof in zip(trained, oofs, strict=True):
        val = run.folds["image_path"][run.folds["fold"] == fold.number]
        if sorted(oof["image_path"]) != sorted(val):
            raise InputError(
                f"{fold.paths.oof}: does not hold the images of fold {fold.number}; run {fold.train_command} --restart"
            )
    joined = pd.DataFrame({"image_path": np.concatenate([oof["image_path"] for oof in oofs])})
    joined["row"] = range(len(joined))
    repeated = joined["image_path"][joined["image_path"].duplicated()]
    if len(repeated):
        raise InputError(f"{run.folder}: {repeated.iloc[0]} is in two folds; train them with --restart")
    probabilities = np.concatenate([oof["probabilities_tta" if tta else "probabilities"] for oof in oofs])
    table = run.prepared.labels.merge(run.folds, on="image_path", validate="one_to_one")
    table = table.merge(joined, on="image_path", validate="one_to_one")
    if len(table) != len(joined):
        raise InputError(
            f"{run.folder}: labels.csv has lost images that this run was scored on; prepare as before, or train again"
        )
    ordered = probabilities[table["row"].to_numpy()]
    target = table[competition.targets].to_numpy(np.int64)
    return OutOfFold(
        competition=competition,
        labels=table.drop(columns="row"),
        probabilities=ordered,
        target=target,
        right=exact_matches(ordered, target, competition),
        complete=present == expected,
        optimistic=any(
            fold.record.train.keep == "best" or fold.record.train.early_stopping is not None for fold in trained
        ),
    )


def test_loader(prepared: Prepared, fold: TrainedFold, predictor: Predictor) -> Loader:
    """Serve the test images in the submission's order, from the cache of the size that the fold was trained on."""
    cache, compute = prepared.cache("test", fold.record.data.cache_size), predictor.compute
    if len(prepared.test) == 0:
        raise InputError(f"{prepared.test_file}: has no test images")
    return Loader(
        images=cache.images,
        rows=cache.rows_of(prepared.test["image_path"].tolist()),
        targets=np.zeros((len(prepared.test), 0), np.int64),
        image_size=fold.image_size,
        batch_size=INFERENCE_BATCH_SIZE,
        hflip_ok=prepared.competition.hflip_ok,
        num_threads=compute.num_loader_threads,
        pin=compute.device.type == "cuda",
    )


def predict_test(prepared: Prepared, fold: TrainedFold, predictor: Predictor, name: str = "") -> np.ndarray:
    """Return (N, num_outputs) float32 for the test images.

    They are kept in the fold's test.npz and used again as long as the weights, the test images, the views, the flags
    and the code are the same.
    """
    test_images = prepared.cache_facts("test", fold.record.data.cache_size)
    files = (fold.weights_file, prepared.test_file, test_images)
    views = repr([*predictor.views(fold.image_size), prepared.competition.hflip_ok])
    how = [str(predictor.compute.dtype), str(predictor.batch_size), predictor.compile, views, code_version()]
    key = " ".join([*(sha256_of(file) for file in files if file.exists()), *how])
    path, array = fold.paths.test, "probabilities_tta" if predictor.tta else "probabilities"
    if path.exists():
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                shape = (len(prepared.test), prepared.competition.layout.num_outputs)
                if str(kept["key"]) == key and array in kept and kept[array].shape == shape:
                    return kept[array]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            pass  # a damaged copy is made again
    loader = test_loader(prepared, fold, predictor)
    predictions = predictor.predict(to_device(fold.network(), predictor.compute), loader, name)
    arrays = {"probabilities": predictions.plain, **({"probabilities_tta": predictions.mean} if predictor.tta else {})}
    write_arrays(path, key=np.array(key), **arrays)
    return predictions.mean


def weighted_mean(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the mean of equally shaped arrays with weights that need not sum to 1."""
    total = sum(weight * part.astype(np.float64) for weight, part in zip(weights, parts, strict=True))
    return np.asarray(total / sum(weights)).astype(np.float32)
