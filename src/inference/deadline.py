"""predict --minutes: as many folds and views as fit into the time, and a whole submission in any case.

Networks that learned from different images help more than views of the same image, so the plain images are answered by
one fold after the other, then a second view by all of them, and so on. A pass over the test images that would end too
late, by the time of its first batches and of the passes before it, is not made. What is averaged in the end is a number
of folds with the same views each.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from torch import nn

from src.core.errors import InputError
from src.core.progress import Progress, minutes
from src.core.runtime import to_device
from src.data.cache import ImageCache
from src.data.loader import INFERENCE_BATCH_SIZE, Loader
from src.inference.ensemble import PredictedTest, kept_predictions, test_loader, views_of, weighted_mean
from src.inference.predictor import Predictor
from src.inference.submission import Answer, facts_of, note_absent, note_harmful_views
from src.inference.testset import TestSet
from src.runs.fold import TrainedFold
from src.runs.run import Run

LOOKS = 20  # at the clock in a pass, if it has as many batches
PROBED = 8  # images that are timed before the first pass
SMALL_STEP = 1.0  # seconds
RESERVE, RESERVE_SHARE, RESERVE_PER_IMAGE = 5.0, 0.03, 20e-6  # seconds for writing the submission, and for noise


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldNetwork:
    """One fold of a run, and the views that it answers with if there is time."""

    run: Run
    fold: TrainedFold
    cache: ImageCache
    predictor: Predictor

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(self.predictor.views(self.fold.image_size))

    def with_views(self, count: int) -> "FoldNetwork":
        """Return this network with the first so many of its views: the first is the plain image."""
        if count >= len(self.views):
            return self
        return replace(self, predictor=replace(self.predictor, view_names=self.views[:count], tta=count > 1))


def interleaved(networks: Sequence[Sequence[FoldNetwork]]) -> list[FoldNetwork]:
    """Return the networks of several runs in turn: the first fold of each, the second of each ..."""
    return [one for turn in zip_longest(*networks) for one in turn if one is not None]


def open_networks(
    runs: Sequence[Run], folds: tuple[int, ...] | None, test: TestSet, predictor: Predictor
) -> list[FoldNetwork]:
    """Return the trained folds of all runs in turn, each with the views that its run answers with."""
    found = []
    for run in runs:
        trained = run.trained(folds)
        note_absent(run, trained, folds)
        note_harmful_views(run, trained, predictor.tta)
        own = replace(predictor, tune=False, view_names=views_of(run, trained, predictor.tta))
        cache = test.cache(run.prepared, run.started_record.cache_size)
        found.append([FoldNetwork(run=run, fold=fold, cache=cache, predictor=own) for fold in trained])
    return interleaved(found)


def _seconds_per_image(network: FoldNetwork, module: nn.Module, loader: Loader, view: str) -> float:
    """Time a few images, after as many that set things up."""
    few = replace(loader, rows=loader.rows[:PROBED], targets=loader.targets[:PROBED])
    network.predictor.predict_view(module, few, view)
    started = time.perf_counter()
    network.predictor.predict_view(module, few, view)
    return max(1e-9, time.perf_counter() - started) / len(few.rows)


def predict_until(network: FoldNetwork, view: str, test: TestSet, until: float, in_any_case: bool) -> np.ndarray | None:
    """Return one view's predictions of the test images, (n, num_outputs) float32, or None if they would take too long.

    With `in_any_case`, those of the first n images that are answered in time, one part of them at least. The parts hold
    whole batches, so the values are those of one pass, unless the time is too short for all images anyway.
    """
    began, loader = time.monotonic(), test_loader(network.cache, test, network.run, network.predictor.compute)
    module = to_device(network.run.load_network(network.fold), network.predictor.compute)
    batch, total = network.predictor.batch_size or INFERENCE_BATCH_SIZE, len(loader.rows)
    step = batch * max(1, total // (batch * LOOKS))
    if in_any_case:  # if not all images can be reached, those that can are found by small steps
        rate = _seconds_per_image(network, module, loader, view)
        step = step if time.monotonic() + rate * total < until else max(1, min(step, int(SMALL_STEP / rate)))
    parts: list[np.ndarray] = []
    longest, name = 0.0, f"{network.run.name}, fold {network.fold.number}, {view}"
    with Progress(name, total, "images") as progress:
        for start in range(0, total, step):
            now = time.monotonic()
            end = began + (now - began) * total / start if start else now
            if parts and (now + longest > until if in_any_case else end > until):
                break
            rows, targets = loader.rows[start : start + step], loader.targets[start : start + step]
            parts.append(network.predictor.predict_view(module, replace(loader, rows=rows, targets=targets), view))
            longest = max(longest, time.monotonic() - now)
            progress.update(len(rows))
    made = np.concatenate(parts)
    if not np.isfinite(made).all():
        raise InputError(f"{network.fold.weights_file}: predicts values that are not finite; {network.fold.repair}")
    return made if in_any_case or len(made) == total else None


@dataclass(kw_only=True)
class _Answered:
    """Networks that have answered, each with the same number of views, and the sums of their predictions."""

    sums: dict[FoldNetwork, np.ndarray] = field(default_factory=dict)
    views: int = 0
    unreached: int = 0  # images that the only network did not get to
    seconds: dict[str, float] = field(default_factory=dict)  # the longest pass of each run

    def means(self) -> dict[FoldNetwork, np.ndarray]:
        return {
            network: total / np.float32(min(self.views, len(network.views))) for network, total in self.sums.items()
        }


def _kept(networks: Sequence[FoldNetwork], test: TestSet) -> dict[FoldNetwork, PredictedTest]:
    """Return the networks' predictions with all views if they are all kept from another time, or nothing."""
    found = {}
    for network in networks:
        kept, name = kept_predictions(network.run, network.fold, network.cache, test, network.predictor)
        array = kept.read(name, (len(test.image_paths), network.run.competition.layout.num_outputs))
        engine = kept.read("engine", (1,))
        if array is None or engine is None:
            return {}
        found[network] = PredictedTest(array, str(engine[0]))
    return found


def _round(
    found: _Answered, networks: Sequence[FoldNetwork], test: TestSet, until: float
) -> dict[FoldNetwork, np.ndarray]:
    """Let the networks answer with their next view, as many as there is time for."""
    made: dict[FoldNetwork, np.ndarray] = {}
    for network in networks:
        if found.views >= len(network.views):
            continue
        began, first = time.monotonic(), not found.sums and not made
        if not first and began + found.seconds.get(network.run.name, 0.0) > until:
            break
        part = predict_until(network, network.views[found.views], test, until, in_any_case=first)
        if part is None:
            break
        found.seconds[network.run.name] = max(found.seconds.get(network.run.name, 0.0), time.monotonic() - began)
        rest = len(test.image_paths) - len(part)
        if rest:
            found.unreached = rest
            part = np.concatenate([part, np.repeat(part.mean(axis=0, keepdims=True), rest, axis=0)])
        made[network] = part
        if rest:
            break
    return made


def _answer(networks: Sequence[FoldNetwork], test: TestSet, until: float) -> _Answered:
    """Answer view by view, until no further round fits; a later round that not all networks finish does not count."""
    found = _Answered()
    for view in range(max(len(network.views) for network in networks)):
        made = _round(found, networks if view == 0 else list(found.sums), test, until)
        wanted = [one for one in (networks if view == 0 else found.sums) if view < len(one.views)]
        if view and len(made) < len(wanted):
            break
        found.sums.update({one: found.sums[one] + part if view else part for one, part in made.items()})
        found.views = view + 1
        if len(made) < len(wanted) or found.unreached:
            break
    return found


def answer_in_time(
    runs: Sequence[Run], folds: tuple[int, ...] | None, test: TestSet, predictor: Predictor, limit: float, until: float
) -> tuple[list[Answer], dict[str, Any]]:
    """Answer the test images within `limit` minutes, which are over at `until` (time.monotonic()).

    Returns an answer for each run that got its turn, and what the submission's JSON says of the time. If not even one
    network has the time to answer all images, the last ones get the mean prediction of the others.
    """
    networks = open_networks(runs, folds, test, predictor)
    most = max(len(network.views) for network in networks)
    kept_ones, used = _kept(networks, test), {one: one for one in networks}
    means = {one: kept.probabilities for one, kept in kept_ones.items()}
    found = _Answered(views=most)
    if not means:
        until -= RESERVE + RESERVE_SHARE * 60 * limit + RESERVE_PER_IMAGE * len(test.image_paths)
        found = _answer(networks, test, until)
        means = found.means()
        used = {one: one.with_views(found.views) for one in means}
        if not found.unreached:
            for one, mean in means.items():
                kept, name = kept_predictions(one.run, one.fold, one.cache, test, used[one].predictor)
                kept.write(**{name: mean, "engine": np.array(["torch"])})
    passes = sum(found.seconds.get(one.run.name, 0.0) * len(one.views) for one in networks)
    facts = {
        "allowed": limit,
        "seconds_for_all": round(passes, 1),
        "networks": [len(means), len(networks)],
        "views": [found.views, most],
        "images_not_reached": found.unreached,
    }
    print(_told(facts, next(iter(used.values())).views))
    engines = {used[one]: kept_ones[one].engine if one in kept_ones else "torch" for one in means}
    return _answers(runs, {used[one]: mean for one, mean in means.items()}, engines, test), facts


def all_answered(facts: dict[str, Any]) -> bool:
    """Return whether all folds answered with all their views."""
    return all(used == most for used, most in (facts["networks"], facts["views"]))


def those_that_answered(
    runs: Sequence[Run], answers: Sequence[Answer]
) -> tuple[list[Run], tuple[int, ...] | None, bool]:
    """Return the runs, folds and views (whether there was more than the plain image) whose out-of-fold predictions
    are like these answers: what is fitted after training is fitted on them.

    Out-of-fold predictions are kept for the plain image and for all views; some of the views use the latter. Runs of
    different snapshots, or without a fold in common, are taken whole: their folds hold out different images.
    """
    folds = {one.facts["run"]: {fold["fold"] for fold in one.facts["folds"]} for one in answers}
    used = [run for run in runs if run.name in folds]
    alike = len({run.prepared.id for run in used}) == 1
    shared = (tuple(sorted(set.intersection(*folds.values()))) or None) if alike else None
    return used, shared, any(len(one.facts["views"]) > 1 for one in answers)


def _told(facts: dict[str, Any], names: Sequence[str]) -> str:
    """Return the line that says what was skipped."""
    (networks, all_networks), (views, all_views) = facts["networks"], facts["views"]
    allowed = f"{facts['allowed']:g} min"
    if facts["images_not_reached"]:
        return (
            f"warning: {allowed} are too few for one fold and one view: the last {facts['images_not_reached']:,} "
            "images get the mean prediction of the others"
        )
    if all_answered(facts):
        return f"{allowed} are enough for all {networks} folds with all {views} views"
    return (
        f"{allowed}: {networks} of {all_networks} folds answer with {views} of {all_views} views ({', '.join(names)}); "
        f"all would take about {minutes(facts['seconds_for_all'])}"
    )


def _answers(
    runs: Sequence[Run], means: dict[FoldNetwork, np.ndarray], engines: dict[FoldNetwork, str], test: TestSet
) -> list[Answer]:
    """Return the mean of each run's networks; a run of which none answered is skipped."""
    answers = []
    own = [[one for one in means if one.run is run] for run in runs]
    num_runs = sum(bool(networks) for networks in own)
    for run, networks in zip(runs, own, strict=True):
        if networks:
            networks.sort(key=lambda one: one.fold.number)
            answers.append(
                Answer(
                    probabilities=weighted_mean([means[one] for one in networks], [1.0] * len(networks)),
                    num_unreadable=test.num_unreadable(networks[0].cache),
                    facts=facts_of(
                        run,
                        [one.fold for one in networks],
                        networks[0].predictor,
                        1 / num_runs,
                        [engines[one] for one in networks],
                    ),
                )
            )
    return answers
