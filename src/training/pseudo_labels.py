"""Test images with the answers of other runs, the teachers, as further training images.

A fold of the student learns from the same fold of each teacher alone: none of them has seen the images that the fold
holds out, so the student's out-of-fold score stays unbiased. What a fold was trained on is kept beside it in
pseudo_labels.csv, so that it resumes without the teachers. A student may be a teacher of the next round, and several
teachers are distilled into one network of a single one's cost.

--pseudo-confidence is the probability that an answer is right, whatever the network's own probabilities mean (label
smoothing, on by default, keeps those of a string of six heads below 0.8): an isotonic regression on the teachers'
out-of-fold predictions turns one into the other. It uses the folds that the student learns from; if the teachers have
only the fold that it holds out, it uses that one, so held-out labels then influence which answers are kept.

Source: Lee, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method, 2013.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.competitions.decision import decide
from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.flags import check_apart
from src.core.runtime import Compute
from src.core.writing import write_csv
from src.data.labels import check_target
from src.inference.ensemble import mean_out_of_fold, predict_test, views_of, weighted_mean
from src.inference.predictor import Predictor
from src.inference.quality import confidence_of
from src.inference.testset import TestSet
from src.runs.paths import FoldPaths
from src.runs.run import Run, open_run

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """The test images that the teachers answer with enough confidence."""

    table: pd.DataFrame  # image_path, a column of each target, confidence

    def write(self, paths: FoldPaths) -> None:
        """Keep them in the fold's folder."""
        write_csv(paths.pseudo_labels, self.table)


def check_pseudo_labels(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for flags that do not go with pseudo-labels."""
    if not config.pseudo_labels:
        return
    flag = f"--pseudo-labels {' '.join(config.pseudo_labels)}"
    if set(competition.layout.kinds) != {"class"}:
        raise InputError(f"{flag}: {competition.name} does not answer with classes only")
    if config.run_name in config.pseudo_labels:
        raise InputError(f"{flag}: {config.run_name} is the run itself; its teachers are other runs")
    check_apart(flag, config, "soft_labels", "freeze_backbone", "cache_url")


def pseudo_labels(config: TrainConfig, run: Run, number: int, compute: Compute, has_begun: bool) -> PseudoLabels | None:
    """Return what a fold learns from test images, if --pseudo-labels asks for it. All ranks call this at once.

    A fold that was started before keeps the pseudo-labels it was started with.

    Raises InputError if a teacher is missing, or was not trained on the same folds.
    """
    if not config.pseudo_labels:
        return None
    world, columns = compute.world, run.competition.targets
    kept = world.together(lambda: _kept(run, number, columns)) if has_begun else None
    if kept is not None:
        return PseudoLabels(table=kept)
    test = TestSet(table=run.prepared.test, sources=None, note="", sample="snapshot")
    teachers = world.together(lambda: [_teacher(config, name, run) for name in config.pseudo_labels])
    judged = world.on_main(lambda: judged_folds(teachers, number))
    parts = [_predicted(teacher, number, judged, compute, test) for teacher in teachers]
    predicted = weighted_mean(parts, [1.0] * len(parts))
    answers = decide(predicted, run.competition)
    right = world.together(lambda: right_by_confidence(teachers, judged))
    confidence = right.predict(confidence_of(predicted, answers, run.competition))
    confidence[predicted.max(axis=1) == 0] = 0  # unreadable, never chosen
    chosen = (confidence >= config.pseudo_confidence) & (predicted.max(axis=1) > 0)
    table = pd.DataFrame({"image_path": test.image_paths, **dict(zip(columns, answers.T, strict=True))})
    table["confidence"] = confidence
    print(
        f"pseudo-labels: {int(chosen.sum()):,} of {len(chosen):,} test images, which fold {number} of "
        f"{' and '.join(config.pseudo_labels)} answers rightly with a probability of at least "
        f"{config.pseudo_confidence:g}"
    )
    return PseudoLabels(table=table[chosen].reset_index(drop=True))


def _kept(run: Run, number: int, columns: list[str]) -> pd.DataFrame:
    path, again = run.paths.fold(number).pseudo_labels, f"{run.train_command(number)} --restart"
    if not path.is_file():
        raise InputError(f"{path}: is lost, and the fold was trained on it; run {again}")
    table = parse_csv(path.read_bytes(), str(path))
    if list(table.columns) != ["image_path", *columns, "confidence"]:
        raise InputError(f"{path}, line 1: has other columns than it was written with; run {again}")
    try:
        table = table.astype(dict.fromkeys(columns, np.int64))
        for head in run.competition.heads:
            check_target(table, head, head.name, str(path))
    except ValueError as error:
        raise InputError(f"{path}: was changed after it was written ({error}); run {again}") from error
    return table


def _predicted(teacher: Run, number: int, judged: tuple[int, ...], compute: Compute, test: TestSet) -> np.ndarray:
    """Return a teacher's predictions for the test images, (N, num_outputs); nothing is probable of unreadable ones.

    With --views auto, its views are chosen on the `judged` folds, not on the images that the student holds out.
    """
    fold = compute.world.together(lambda: teacher.trained((number,))[0])
    cache = compute.world.together(lambda: test.cache(teacher.prepared, teacher.started_record.cache_size))
    wanted = compute.world.together(lambda: views_of(teacher, teacher.trained(judged), True))
    predictor = Predictor(competition=teacher.competition, compute=compute, view_names=wanted)
    found = predict_test(teacher, fold, cache, test, predictor).probabilities
    return np.where(cache.readings.readable[cache.rows_of(test.image_paths)][:, None], found, 0)


def judged_folds(teachers: list[Run], number: int) -> tuple[int, ...]:
    """Return the folds whose held-out images say how often the teachers are right: those that fold `number` learns
    from and all teachers have, or only itself."""
    of_all = set.intersection(*({fold.number for fold in teacher.trained()} for teacher in teachers))
    return tuple(sorted(of_all - {number})) or (number,)


def right_by_confidence(teachers: list[Run], folds: tuple[int, ...]) -> "IsotonicRegression":
    """Return how often the teachers' mean is right by its confidence, on the held-out images of these folds."""
    from sklearn.isotonic import IsotonicRegression  # half a second, and few trainings need it

    predicted, oof = mean_out_of_fold(teachers, folds, True)
    answers = decide(predicted, oof.competition)
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    return curve.fit(confidence_of(predicted, answers, oof.competition), (answers == oof.target).all(axis=1))


def _teacher(config: TrainConfig, name: str, run: Run) -> Run:
    teacher = open_run(config, name)
    if teacher.prepared.id != run.prepared.id:
        raise InputError(
            f"--pseudo-labels {name}: was trained on snapshot {teacher.prepared.id}, this run on {run.prepared.id}, "
            "whose folds may be others; train both on one snapshot"
        )
    return teacher
