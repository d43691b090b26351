"""Whether test images look like training images: sizes, brightness, contrast, and what is answered for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from src.competitions.boxes import size_of
from src.competitions.decision import decide
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.cache import ImageCache
from src.data.remote import RemotePixels
from src.inference.ensemble import OutOfFold
from src.inference.kept import KeptPredictions
from src.runs.fold import TrainedFold
from src.runs.run import Run

NUM_SAMPLE, NUM_SLICES = 2000, 20  # images whose brightness is measured, in slices of neighbouring rows
NUM_HEADERS = 250  # files of each part whose width and height are read
MAX_BYTES = 32 << 20  # read for that of each part
MAX_FILES = 300_000  # images of a competition beyond which its folders are not listed for it
NUM_STEPS = 24  # of a histogram


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Measures of train and test images: name -> (values of train, values of test), and shares of what is answered."""

    measures: dict[str, tuple[np.ndarray, np.ndarray]]
    answers: dict[str, pd.DataFrame] = field(default_factory=dict)  # of a head, or "length": name, and shares
    notes: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """Return a row per measure: medians, the middle 90% of each, and the largest distance of both distributions."""
        rows = []
        for name, (train, test) in self.measures.items():
            row: dict[str, Any] = {"measure": name}
            for part, values in (("train", train), ("test", test)):
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                row |= {part: f"{middle:,.4g}", f"{part}_90%": f"{low:,.4g} to {high:,.4g}"}
            rows.append(row | {"distance": float(ks_2samp(train, test).statistic)})
        return pd.DataFrame(rows)


def _sample(images: Any) -> np.ndarray:
    """Return (K, H, W, C): slices of neighbouring rows, evenly over all, which reads few blocks of a cache."""
    if len(images) <= NUM_SAMPLE:
        return np.asarray(images[np.arange(len(images))])
    length = NUM_SAMPLE // NUM_SLICES
    starts = np.linspace(0, len(images) - length, NUM_SLICES).astype(int)
    return np.asarray(images[(starts[:, None] + np.arange(length)).ravel()])


def _light(cache: ImageCache) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each sampled image's pixels, in per cent of the largest number."""
    images = _sample(cache.images)
    flat = images.reshape(len(images), -1)
    flat = flat[flat.any(axis=1)]  # black ones could not be read
    scale = 100 / np.iinfo(images.dtype).max
    return flat.mean(axis=1, dtype=np.float64) * scale, flat.std(axis=1, dtype=np.float32).astype(np.float64) * scale


def _shapes(files: InputFiles, paths: Sequence[str]) -> np.ndarray:
    """Return (K, 2): height and width of those upright images whose file can be read, from its header."""
    found, read = [], 0
    for path in paths:
        location = files.located.get(path)
        if location is None:
            continue
        read += location.size
        if read > MAX_BYTES:
            break
        found.append(size_of(location))
    return np.array([one for one in found if one], dtype=np.int64).reshape(-1, 2)


def compare(run: Run, folds: Sequence[TrainedFold], oof: OutOfFold) -> Comparison:
    """Return how train and test images compare, as far as their files are on this machine."""
    prepared, predicted, notes = run.prepared, kept_predictions(folds, oof), []
    if predicted is None:
        notes.append("Answers on test images are not known yet: run predict, then evaluate again.")
    measures: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        caches = [prepared.cache(part, run.started_record.cache_size) for part in ("train", "test")]
        sizes = [cache.sources.sizes[cache.sources.sizes > 0] / 1000 for cache in caches]
        is_remote = any(isinstance(cache.images, RemotePixels) for cache in caches)
        light = [] if is_remote else [_light(cache) for cache in caches]  # would fetch much of both
    except InputError as error:
        return Comparison(measures={}, answers=answered(oof, predicted), notes=[*notes, str(error)])
    shapes = _all_shapes(run, caches)
    pairs = {
        "width in pixels": [shape[:, 1] for shape in shapes],
        "height in pixels": [shape[:, 0] for shape in shapes],
        "size of the file in kB": sizes,
        "brightness in %": [mean for mean, _ in light],
        "contrast in %": [spread for _, spread in light],
    }
    for name, parts in pairs.items():
        if len(parts) == 2 and len(parts[0]) and len(parts[1]):
            measures[name] = (parts[0], parts[1])
    if is_remote:
        notes.append("Brightness and contrast are not shown: the pixels are at --cache-url.")
    if "width in pixels" not in measures:
        notes.append("Widths and heights are not shown: the image files are not in input/ as they were.")
    return Comparison(measures=measures, answers=answered(oof, predicted), notes=notes)


def _all_shapes(run: Run, caches: Sequence[ImageCache]) -> list[np.ndarray]:
    """Return the shapes of some train and test images, none if input/ does not have them."""
    root = run.prepared.config.input_dir / run.competition.input_folder
    none = [np.zeros((0, 2), np.int64)] * 2
    if not root.is_dir() or sum(len(cache.images) for cache in caches) > MAX_FILES:
        return none
    rng = np.random.default_rng(0)
    try:
        files = InputFiles(root, suffixes=run.competition.image_suffixes)
        orders = [rng.permutation(len(cache.images))[:NUM_HEADERS].tolist() for cache in caches]
        picked = [[cache.image_paths[row] for row in order] for cache, order in zip(caches, orders, strict=True)]
        files.locate([path for paths in picked for path in paths])
        return [_shapes(files, paths) for paths in picked]
    except (InputError, OSError):
        return none


def kept_predictions(folds: Sequence[TrainedFold], oof: OutOfFold) -> np.ndarray | None:
    """Return the mean of the folds' kept predictions of test images, (N, num_outputs), or None if there are none."""
    found = []
    for fold in folds:
        kept = KeptPredictions(fold.paths.test, "", fold.result.weights_sha256)
        predicted = kept.read_of_weights(oof.competition.layout.num_outputs)
        if predicted is not None and np.isfinite(predicted).all():
            found.append(predicted)
    same = [predicted for predicted in found if predicted.shape == found[0].shape]
    return np.stack(same).mean(axis=0).astype(np.float32) if same else None


def answered(oof: OutOfFold, predicted: np.ndarray | None) -> dict[str, pd.DataFrame]:
    """Return shares of labels, out-of-fold answers and answers on test images, whose predictions (N, num_outputs) may
    be missing: of each length, or of each head's classes."""
    tables = {"labels": oof.target, "answers out of fold": oof.answers}
    if predicted is not None and len(predicted):
        tables["answers on test images"] = decide(predicted, oof.competition, oof.decided.rule)
    found: dict[str, pd.DataFrame] = {}
    if oof.competition.pad_class is not None:
        lengths = range(1, len(oof.competition.heads) + 1)
        found["length"] = pd.DataFrame({"name": [str(length) for length in lengths]}).assign(
            **{
                name: [float(((ids != oof.competition.pad_class).sum(axis=1) == length).mean()) for length in lengths]
                for name, ids in tables.items()
            }
        )
    if oof.competition.is_string:
        ids_of = {name: ids.ravel() for name, ids in tables.items()}
        found["character"] = _shares(oof.competition.heads[0].classes, ids_of, skip=oof.competition.pad_class)
        return found
    for number, head in enumerate(oof.competition.heads):
        parts = {name: oof.competition.layout.split_targets(values)[number] for name, values in tables.items()}
        names = oof.competition.class_names if len(oof.competition.heads) == 1 else ()
        if head.kind == "labels":
            shares = {name: part.mean(axis=0) for name, part in parts.items()}
            found[head.name] = pd.DataFrame({"name": list(head.classes)}).assign(**shares)
        elif head.kind == "number":
            found[head.name] = _histogram({name: part[:, 0] for name, part in parts.items()})
        else:
            found[head.name] = _shares(names or head.classes, {name: part[:, 0] for name, part in parts.items()})
    return found


def _shares(names: Sequence[str], ids_of: dict[str, np.ndarray], skip: int | None = None) -> pd.DataFrame:
    kept = [number for number in range(len(names)) if number != skip]
    shares = {}
    for name, ids in ids_of.items():
        counts = np.bincount(ids.astype(np.int64), minlength=len(names))[kept]
        shares[name] = counts / max(1, counts.sum())
    return pd.DataFrame({"name": [names[number] or "(none)" for number in kept]}).assign(**shares)


def _histogram(values_of: dict[str, np.ndarray]) -> pd.DataFrame:
    edges = histogram_edges(list(values_of.values()))
    shares = {name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(1, len(values))
              for name, values in values_of.items()}  # fmt: skip
    return pd.DataFrame({"name": [f"{low:.4g}" for low in edges[:-1]]}).assign(**shares)


def histogram_edges(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return edges over the middle 99% of all values."""
    low, high = np.quantile(np.concatenate([part.astype(np.float64) for part in parts]), [0.005, 0.995])
    return np.linspace(low, high if high > low else low + 1, NUM_STEPS + 1)
