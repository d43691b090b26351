"""Out-of-fold and test predictions of runs, put together by image path."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.runtime import Compute, to_device
from src.core.writing import sha256_of, write_arrays
from src.data.cache import open_cache
from src.data.labels import read_prepared
from src.data.loader import Loader
from src.data.tta import tta_views
from src.inference.autotune import DEFAULT_BATCH_SIZE, Wanted, fastest
from src.inference.predictor import predict_probabilities
from src.metrics import exact_matches
from src.runs.run import TrainedFold, code_version, open_run


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """A run's predictions for the images it was not trained on: rows of the label table, in its order."""

    labels: pd.DataFrame  # image_path, targets, fold, and whatever prepare kept
    probabilities: np.ndarray  # (N, sum of num_classes) float32
    target: np.ndarray  # (N, num_heads) int64
    right: np.ndarray  # (N,) bool, exact match over all heads
    complete: bool  # whether every held-out image of every fold is there
    optimistic: bool  # whether the epoch was chosen on these very images


def out_of_fold(
    run_dir: Path, prepared: Path, competition: Competition, folds: tuple[int, ...] | None, tta: bool
) -> OutOfFold:
    """Join the folds' out-of-fold predictions with the labels.

    Raises InputError if a fold is absent (unless `folds` leaves it out), does not hold exactly the images that
    folds.csv gives it, or shares an image with another.
    """
    trained = open_run(run_dir, competition, folds)
    own = read_prepared(run_dir, "folds")
    expected = sorted(int(number) for number in own["fold"].dropna().unique())
    present = sorted(fold.number for fold in trained)
    if folds is None and present != expected:
        absent = ", ".join(str(number) for number in expected if number not in present)
        raise InputError(
            f"{run_dir}: fold {absent} is not trained to its end, so the mean would leave images out; train it, "
            f"or score part of the data with --folds {' '.join(map(str, present))}"
        )
    oofs = [fold.oof() for fold in trained]
    for fold, oof in zip(trained, oofs, strict=True):
        val = own["image_path"][own["fold"] == fold.number]
        if sorted(oof["image_path"]) != sorted(val):
            raise InputError(
                f"{fold.folder}/oof.npz: does not hold the images of fold {fold.number}; train it with --restart"
            )
    paths = np.concatenate([oof["image_path"] for oof in oofs])
    joined = pd.DataFrame({"image_path": paths, "place": range(len(paths))})
    repeated = joined["image_path"][joined["image_path"].duplicated()]
    if len(repeated):
        raise InputError(f"{run_dir}: {repeated.iloc[0]} is in two folds; train them with --restart")
    probabilities = np.concatenate([oof["probabilities_tta" if tta else "probabilities"] for oof in oofs])
    table = read_prepared(prepared, "labels").merge(own, on="image_path", validate="one_to_one")
    table = table.merge(joined, on="image_path", validate="one_to_one")
    if len(table) != len(joined):
        raise InputError(
            f"{run_dir}: labels.csv has lost images that this run was scored on; prepare as it was, or train anew"
        )
    ordered = probabilities[table["place"].to_numpy()]
    target = table[competition.targets].to_numpy(np.int64)
    return OutOfFold(
        labels=table.drop(columns="place"),
        probabilities=ordered,
        target=target,
        right=exact_matches(ordered, target, competition),
        complete=present == expected,
        optimistic=any(
            fold.config["train"]["keep"] == "best" or fold.config["train"]["early_stopping"] for fold in trained
        ),
    )


def test_loader(prepared: Path, image_size: tuple[int, int], hflip_ok: bool, compute: Compute) -> Loader:
    """Serve the test images in the submission's order."""
    cache, table = open_cache(prepared, "test"), read_prepared(prepared, "test")
    return Loader(
        images=cache.images,
        rows=cache.rows_of(table["image_path"].tolist()),
        targets=np.zeros((len(table), 0), np.int64),
        image_size=image_size,
        batch_size=DEFAULT_BATCH_SIZE,
        hflip_ok=hflip_ok,
        num_threads=compute.num_loader_threads,
        pin=compute.device.type == "cuda",
    )


def predict_test(
    fold: TrainedFold,
    prepared: Path,
    competition: Competition,
    compute: Compute,
    *,
    tta: bool,
    batch_size: int | None = None,
    wanted: Wanted = "auto",
) -> np.ndarray:
    """Return (N, sum of num_classes) float32 for the test images; kept in the fold's test.npz and used again while the
    weights, the test cache, the views and the code are the same."""
    files = (fold.weights_file, prepared / "test.csv", prepared / "test.json")
    how = [str(compute.dtype), str(batch_size), wanted, code_version()]
    key = " ".join([*(sha256_of(file) for file in files if file.exists()), *how])
    path, name = fold.folder / "test.npz", "probabilities_tta" if tta else "probabilities"
    if path.exists():
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                if str(kept["key"]) == key and name in kept:
                    return kept[name]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            pass  # a damaged copy is made again
    loader = test_loader(prepared, fold.image_size, competition.hflip_ok, compute)
    cached = loader.images.shape[1:3]
    if len(loader.rows) and tuple(fold.config.get("cache_size", cached)) != cached:
        height, width = fold.config["cache_size"]
        raise InputError(
            f"{fold.folder}: was trained on a cache of {height}x{width}, test.npy is {cached[0]}x{cached[1]}; "
            f"run python -m src.prepare --image-size {height} {width}"
        )
    if len(loader.rows) == 0:
        raise InputError(f"{prepared}: there are no test images to answer")
    views = list(tta_views(competition.hflip_ok, fold.image_size).values())[1:] if tta else []
    network = to_device(fold.network(), compute)
    forward, loader = fastest(network, loader, compute, 1 + len(views), batch_size, wanted)
    plain, mean = predict_probabilities(network, loader, competition.heads, compute, views, forward)
    arrays = {"probabilities": plain, **({"probabilities_tta": mean} if tta else {})}
    write_arrays(path, key=np.array(key), **arrays)
    return mean


def weighted_mean(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the mean of equally shaped arrays with weights that need not add up to 1."""
    total = sum(weight * part.astype(np.float64) for weight, part in zip(weights, parts, strict=True))
    return np.asarray(total / sum(weights)).astype(np.float32)
