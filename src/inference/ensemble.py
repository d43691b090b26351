"""Out-of-fold and test predictions of runs, joined by image path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from src.competitions.decision import Rule
from src.competitions.spec import Competition, check_has_answers
from src.core.errors import InputError
from src.core.runtime import Compute, to_device
from src.data.cache import ImageCache
from src.data.loader import Loader, unlabelled
from src.data.remote import RemotePixels
from src.inference.answers import combined
from src.inference.kept import KeptPredictions
from src.inference.predictor import Predictor
from src.inference.quality import is_for_rules
from src.inference.rules import Decided, decide_out_of_fold
from src.inference.testset import TestSet
from src.inference.views import AUTO, choose_views
from src.metrics import metric_of
from src.runs.fold import TrainedFold
from src.runs.run import Run
from src.runs.versions import code_version


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """A run's predictions for the images it was not trained on: rows of the label table, in its order."""

    competition: Competition
    labels: pd.DataFrame  # image_path, targets, fold, and the label table's other columns
    probabilities: np.ndarray  # (N, num_outputs) float32
    target: np.ndarray  # (N, num_targets)
    answers: np.ndarray  # (N, num_targets), decided as `decided` says
    decided: Decided
    views: tuple[str, ...]  # chosen with --views auto; otherwise those that were named
    complete: bool  # whether every held-out image of every fold is there
    optimistic: bool  # whether the epoch was chosen on these very images

    @property
    def right(self) -> np.ndarray:
        """(N,) bool: whether the whole answer is exactly right."""
        found: np.ndarray = (self.answers == self.target).all(axis=1)
        return found

    @property
    def score(self) -> float:
        """By the competition's metric; of what is fitted on these images, by cross-validation."""
        return metric_of(self.competition)(self.target, self.decided.scored, self.competition)

    def with_probabilities(self, probabilities: np.ndarray) -> "OutOfFold":
        """Return other predictions (N, num_outputs) for the same images, decided anew."""
        groups: np.ndarray = self.labels["group"].to_numpy()
        decided = decide_out_of_fold(probabilities, self.target, self.competition, groups)
        return replace(self, probabilities=probabilities, decided=decided, answers=decided.answers(self.competition))


def out_of_fold(
    run: Run,
    folds: tuple[int, ...] | None = None,
    tta: bool = True,
    predicted: Mapping[int, dict[str, np.ndarray]] | None = None,
) -> OutOfFold:
    """Join the folds' out-of-fold predictions with the labels; `predicted` replaces what the folds kept, see
    `TrainedFold.oof`.

    Raises InputError if a fold is missing (unless `folds` leaves it out), or its predictions are not those that it
    ended with.
    """
    check_has_answers(run.competition)
    trained, competition = run.trained(folds), run.competition
    expected = run.prepared.fold_numbers("all")
    present = sorted(fold.number for fold in trained)
    if folds is None and present != expected:
        missing = [number for number in expected if number not in present]
        raise InputError(
            f"{run.folder}: fold {', '.join(map(str, missing))} is not trained to its end, so the score would miss "
            f"images; run {run.train_command(missing[0])}, or score part of the data with --folds "
            f"{' '.join(map(str, present))}"
        )
    oofs = [predicted[fold.number] if predicted else fold.oof() for fold in trained]
    for fold, oof in zip(trained, oofs, strict=True):
        val = run.prepared.folds["image_path"][run.prepared.folds["fold"] == fold.number]
        if sorted(oof["image_path"]) != sorted(val):
            raise InputError(
                f"{fold.paths.oof}: does not hold the images of fold {fold.number}; run {fold.train_command} --restart"
            )
    joined = pd.DataFrame({"image_path": np.concatenate([oof["image_path"] for oof in oofs])})
    joined["row"] = range(len(joined))
    probabilities = np.concatenate([oof["probabilities_tta" if tta else "probabilities"] for oof in oofs])
    table = run.prepared.labels.merge(run.prepared.folds, on="image_path", validate="one_to_one")
    table = table.merge(joined, on="image_path", validate="one_to_one")
    assert len(table) == len(joined)  # labels and folds are of one sealed snapshot
    order = table["row"].to_numpy()
    ordered, views = probabilities[order], run.started_record.train.views
    target = table[competition.targets].to_numpy(competition.target_type)
    if tta and "each" in oofs[0]:
        each = np.concatenate([oof["each"] for oof in oofs], axis=1)[:, order]
        chosen = choose_views(oofs[0]["views"].tolist(), each, target, competition, table["group"].to_numpy())
        ordered, views = chosen.predicted, chosen.names
    if "answer" in table.columns:  # several images of an answer are scored as one, as the organiser does
        answers = pd.factorize(table["answer"])[0]
        ordered, first = combined(ordered, answers, competition), np.unique(answers, return_index=True)[1]
        table, target = table.iloc[first].reset_index(drop=True), target[first]
    decided = decide_out_of_fold(ordered, target, competition, table["group"].to_numpy())
    return OutOfFold(
        competition=competition,
        labels=table.drop(columns="row"),
        probabilities=ordered,
        target=target,
        answers=decided.answers(competition),
        decided=decided,
        views=views,
        complete=present == expected,
        optimistic=run.started_record.train.keep == "best" or run.started_record.train.early_stopping is not None,
    )


def check_same_images(names: list[str], oofs: list[OutOfFold]) -> None:
    """Raise InputError unless all runs were scored on the same images with the same labels."""
    for name, oof in zip(names[1:], oofs[1:], strict=True):
        if oof.labels["image_path"].tolist() != oofs[0].labels["image_path"].tolist():
            raise InputError(
                f"--run-name: {name} and {names[0]} were scored on different images; train all folds of both, or "
                "prepare both with one split"
            )
        if not np.array_equal(oof.target, oofs[0].target):
            raise InputError(
                f"--run-name: {name} and {names[0]} were scored with different labels; train both on one snapshot"
            )


def views_of(run: Run, trained: Sequence[TrainedFold], tta: bool) -> tuple[str, ...]:
    """Return the names of the views that a run answers with; with --views auto, those that help out of fold."""
    if not tta or AUTO not in run.started_record.train.views:
        return run.started_record.train.views
    return out_of_fold(run, tuple(fold.number for fold in trained)).views


def mean_out_of_fold(runs: Sequence[Run], folds: tuple[int, ...] | None, tta: bool) -> tuple[np.ndarray, OutOfFold]:
    """Return the mean of the runs' out-of-fold predictions, (N, num_outputs), and the first run's with its labels.

    Raises InputError if those predictions are missing, or of different images.
    """
    used = [tuple(fold.number for fold in run.trained(folds)) for run in runs]
    oofs = [out_of_fold(run, numbers, tta) for run, numbers in zip(runs, used, strict=True)]
    if len(oofs) > 1:
        check_same_images([run.name for run in runs], oofs)
    return weighted_mean([oof.probabilities for oof in oofs], [1.0] * len(oofs)), oofs[0]


def fitted_rule(runs: Sequence[Run], folds: tuple[int, ...] | None, tta: bool) -> Rule:
    """Return how averaged predictions of these runs become answers, fitted on their out-of-fold predictions.

    Where nothing is fitted, nothing is read. Raises InputError if those predictions are missing.
    """
    competition = runs[0].competition
    if not is_for_rules(competition):
        return Rule()
    mean, oof = mean_out_of_fold(runs, folds, tta)
    return oof.with_probabilities(mean).decided.rule


def test_loader(cache: ImageCache, test: TestSet, run: Run, compute: Compute) -> Loader:
    """Serve the test images in the order in which they are first asked for, at the size that the run's networks see."""
    rows = cache.rows_of(test.image_paths)
    return replace(
        unlabelled(cache.images, rows, run.started_record.model.image_size, run.competition.hflip_ok),
        num_threads=compute.num_loader_threads,
        world=compute.world,
        in_blocks=isinstance(cache.images, RemotePixels),
        pin=compute.device.type == "cuda",
    )


def kept_predictions(
    run: Run, fold: TrainedFold, cache: ImageCache, test: TestSet, predictor: Predictor
) -> tuple[KeptPredictions, str]:
    """Return where a fold's predictions are kept under all that they depend on, and which of them are meant."""
    views = [*predictor.views(fold.image_size), run.competition.hflip_ok]
    how = [
        str(predictor.compute.dtype),
        predictor.batch_size,
        predictor.compile,
        predictor.engine,
        views,
        predictor.confidence_threshold,
    ]
    key = repr(
        [fold.result.weights_sha256, cache.record.pixels, cache.image_size, test.image_paths, *how, code_version()]
    )
    return KeptPredictions(
        fold.paths.test, key, fold.result.weights_sha256
    ), "probabilities_tta" if predictor.tta else "probabilities"


class PredictedTest(NamedTuple):
    """(N, num_outputs) float32, in the order of `TestSet.image_paths`, and what ran the network."""

    probabilities: np.ndarray
    engine: str


def predict_test(run: Run, fold: TrainedFold, cache: ImageCache, test: TestSet, predictor: Predictor) -> PredictedTest:
    """Return a fold's predictions for the test images.

    They are kept in the fold's test.npz and used again as long as the weights, the test images, the views, the flags
    and the code are the same. Raises InputError if they are not finite.
    """
    kept, name = kept_predictions(run, fold, cache, test, predictor)
    world, shape = predictor.compute.world, (len(test.image_paths), run.competition.layout.num_outputs)
    found, engine = world.on_main(lambda: (kept.read(name, shape), kept.read("engine", (1,))))
    if found is not None and engine is not None:
        return PredictedTest(found, str(engine[0]))
    loader = world.together(lambda: test_loader(cache, test, run, predictor.compute))
    network = to_device(world.together(lambda: run.load_network(fold)), predictor.compute)
    predictions, ran_by = predictor.predict_by(network, loader, f"{run.name}, fold {fold.number}")
    if not np.isfinite(predictions.mean).all():
        raise InputError(f"{fold.weights_file}: predicts values that are not finite; {fold.repair}")
    arrays = {"probabilities": predictions.plain, **({"probabilities_tta": predictions.mean} if predictor.tta else {})}
    arrays["engine"] = np.array([ran_by])
    world.on_main(lambda: kept.write(**arrays))
    return PredictedTest(predictions.mean, ran_by)


def weighted_mean(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the mean of equally shaped arrays with weights that need not sum to 1."""
    total = sum(weight * part.astype(np.float64) for weight, part in zip(weights, parts, strict=True))
    return np.asarray(total / sum(weights)).astype(np.float32)
