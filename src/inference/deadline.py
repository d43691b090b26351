"""predict --minutes: as many folds and views as fit into the time, and a whole submission in any case.

Networks that learned from different images help more than views of the same image, so all folds answer before any of
them answers with a second view. The time that each takes is measured on the first test images.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from torch import nn

from src.core.errors import InputError
from src.core.progress import Progress, minutes
from src.core.runtime import to_device
from src.data.cache import ImageCache
from src.data.loader import INFERENCE_BATCH_SIZE, Loader
from src.inference.ensemble import kept_predictions, test_loader, weighted_mean
from src.inference.predictor import Predictor
from src.inference.submission import Answer, facts_of, note_absent, views_of
from src.inference.testset import TestSet
from src.runs.fold import TrainedFold
from src.runs.run import Run

WARM_UP = 8  # images whose time does not count: the first call sets things up
MEASURED, MEASURED_ON_GPU = 64, 512  # images that are timed, at most
MEASURE_SECONDS = 3.0  # fewer images are timed if that takes longer
CHUNK_SECONDS = 5.0  # of predicting between two looks at the clock
RESERVE, RESERVE_SHARE, RESERVE_PER_IMAGE = 2.0, 0.05, 20e-6  # seconds for writing the submission, and for noise


@dataclass(frozen=True, kw_only=True)
class Network:
    """One fold of a run, and the views that it answers with if there is time."""

    run: Run
    fold: TrainedFold
    cache: ImageCache
    predictor: Predictor

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(self.predictor.views(self.fold.image_size))

    def with_views(self, count: int) -> "Network":
        """Return this network with the first so many of its views: the original alone is the plain image."""
        if count >= len(self.views):
            return self
        wanted = self.views[:count]
        return replace(self, predictor=replace(self.predictor, wanted=wanted, tta=count > 1))


@dataclass(frozen=True)
class Cost:
    """Seconds that a network takes for all test images."""

    load: float
    plain: float
    view: float  # each further one

    def of(self, num_views: int) -> float:
        return self.load + self.plain + (num_views - 1) * self.view


def interleaved(networks: Sequence[Sequence[Network]]) -> list[Network]:
    """Return the networks of several runs in turn: the first fold of each, the second of each ..."""
    return [one for turn in zip_longest(*networks) for one in turn if one is not None]


def measure(network: Network, test: TestSet) -> Cost:
    """Time a network on the first test images: loading it, the plain image, and what each further view adds."""
    started = time.perf_counter()
    module, loader = _load(network, test)
    load, total = time.perf_counter() - started, len(loader.rows)
    plain = replace(network.predictor, tta=False)

    def seconds(predictor: Predictor, count: int) -> float:
        start = time.perf_counter()
        predictor.predict(module, _part(loader, 0, count))
        return time.perf_counter() - start

    seconds(plain, WARM_UP)
    rate = seconds(plain, WARM_UP) / min(WARM_UP, total)
    most = MEASURED if network.predictor.compute.device.type == "cpu" else MEASURED_ON_GPU
    count = max(1, min(total, most, max(WARM_UP, int(MEASURE_SECONDS / rate))))
    one = seconds(plain, count) / count
    others = len(network.views) - 1
    view = max(0.0, seconds(network.predictor, count) / count - one) / others if others else 0.0
    return Cost(load, one * total, view * total)


def plan(costs: Sequence[Cost], num_views: Sequence[int], seconds: float) -> tuple[int, int]:
    """Return how many networks, the first ones, answer with how many views at most; never less than one of each.

    As many networks as fit with the plain image, then as many views as fit for these.
    """

    def total(networks: int, views: int) -> float:
        used = zip(costs[:networks], num_views, strict=False)
        return sum(cost.of(min(views, most)) for cost, most in used)

    networks = max((count for count in range(1, len(costs) + 1) if total(count, 1) <= seconds), default=1)
    views = max((count for count in range(1, max(num_views) + 1) if total(networks, count) <= seconds), default=1)
    return networks, views


def _load(network: Network, test: TestSet) -> tuple[nn.Module, Loader]:
    compute = network.predictor.compute
    module = to_device(network.run.load_network(network.fold), compute)
    return module, test_loader(network.cache, test, network.run, compute)


def _part(loader: Loader, start: int, end: int) -> Loader:
    return replace(loader, rows=loader.rows[start:end], targets=loader.targets[start:end])


def predict_until(network: Network, test: TestSet, until: float, seconds_per_image: float) -> np.ndarray:
    """Return (n, num_outputs) float32 of the first n test images: all, or those that are answered before `until`.

    They are predicted in parts of whole batches, so that the values are those of one pass. At least one part is made.
    """
    module, loader = _load(network, test)
    batch = network.predictor.batch_size or INFERENCE_BATCH_SIZE
    step = batch * max(1, int(CHUNK_SECONDS / max(1e-9, seconds_per_image * batch)))
    parts: list[np.ndarray] = []
    longest, total = 0.0, len(loader.rows)
    with Progress(f"{network.run.name}, fold {network.fold.number}", total, "images") as progress:
        for start in range(0, total, step):
            began = time.monotonic()
            if parts and began + longest > until:
                break
            found = network.predictor.predict(module, _part(loader, start, start + step))
            parts.append(found.mean)
            longest = max(longest, time.monotonic() - began)
            progress.update(len(parts[-1]))
    made = np.concatenate(parts)
    if not np.isfinite(made).all():
        raise InputError(f"{network.fold.weights_file}: predicts values that are not finite; {network.fold.repair}")
    return made


def open_networks(
    runs: Sequence[Run], folds: tuple[int, ...] | None, test: TestSet, predictor: Predictor
) -> list[Network]:
    """Return the trained folds of all runs in turn, each with the views that its run answers with."""
    found = []
    for run in runs:
        trained = run.trained(folds)
        note_absent(run, trained, folds)
        own = replace(predictor, tune=False, wanted=views_of(run, trained, predictor.tta))
        cache = test.cache(run.prepared, run.begun.cache_size)
        found.append([Network(run=run, fold=fold, cache=cache, predictor=own) for fold in trained])
    return interleaved(found)


@dataclass
class _Answered:
    """Networks that have answered all images, and their predictions; of the only one, perhaps not all."""

    networks: list[Network]
    parts: list[np.ndarray]
    unreached: int = 0


def answer_in_time(
    runs: Sequence[Run], folds: tuple[int, ...] | None, test: TestSet, predictor: Predictor, limit: float, until: float
) -> tuple[list[Answer], dict[str, Any]]:
    """Answer the test images within `limit` minutes, which are over at `until` (time.monotonic()).

    Returns an answer for each run that got its turn, and what the submission's JSON says of the time. If not even one
    network has the time to answer all images, the last ones get the mean prediction of the others.
    """
    networks = open_networks(runs, folds, test, predictor)
    until -= RESERVE + RESERVE_SHARE * 60 * limit + RESERVE_PER_IMAGE * len(test.image_paths)
    costs = {run.name: measure(next(one for one in networks if one.run is run), test) for run in runs}
    each = [costs[one.run.name] for one in networks]
    num_views = [len(one.views) for one in networks]
    count, views = plan(each, num_views, until - time.monotonic())
    chosen = [one.with_views(views) for one in networks[:count]]
    seconds = [cost.of(min(views, most)) for cost, most in zip(each, num_views, strict=True)]
    found = _answered(chosen, seconds, test, until)
    full = sum(cost.of(most) for cost, most in zip(each, num_views, strict=True))
    used = len(found.networks)
    facts = {
        "allowed": limit,
        "seconds_for_all": round(full, 1),
        "networks": [used, len(networks)],
        "views": [min(views, max(num_views)), max(num_views)],
        "images_not_reached": found.unreached,
    }
    print(_told(facts, found))
    return _answers(runs, found, test), facts


def _answered(chosen: Sequence[Network], seconds: Sequence[float], test: TestSet, until: float) -> _Answered:
    """Let one network after the other answer; what does not finish in time is dropped unless it is the only one."""
    found, slower, total = _Answered([], []), 1.0, len(test.image_paths)
    for network, expected in zip(chosen, seconds, strict=False):
        began = time.monotonic()
        kept, name = kept_predictions(network.run, network.fold, network.cache, test, network.predictor)
        made = kept.read(name, (total, network.run.competition.layout.num_outputs))
        if made is None:
            if found.parts and began + slower * expected > until:
                break
            made = predict_until(network, test, until, slower * expected / total)
            slower = max(1.0, (time.monotonic() - began) / max(1e-9, expected * len(made) / total))
            if len(made) == total:
                kept.write(**{name: made})
        if len(made) < total:
            if found.parts:
                break
            rest = np.broadcast_to(made.mean(axis=0), (total - len(made), made.shape[1]))
            found.unreached, made = len(rest), np.concatenate([made, rest.astype(np.float32)])
        found.networks.append(network)
        found.parts.append(made)
        if found.unreached:
            break
    return found


def _told(facts: dict[str, Any], found: _Answered) -> str:
    """Return the line that says what was left out."""
    (networks, all_networks), (views, all_views) = facts["networks"], facts["views"]
    if found.unreached:
        return (
            f"warning: {facts['allowed']:g} min are too few for one fold and one view: the last {found.unreached:,} "
            "images get the mean prediction of the others"
        )
    if (networks, views) == (all_networks, all_views):
        return f"{facts['allowed']:g} min are enough for all {networks} folds with all {views} views"
    names = ", ".join(found.networks[0].views)
    return (
        f"{facts['allowed']:g} min: {networks} of {all_networks} folds answer with {views} of {all_views} views "
        f"({names}); all would take about {minutes(facts['seconds_for_all'])}"
    )


def _answers(runs: Sequence[Run], found: _Answered, test: TestSet) -> list[Answer]:
    """Return the mean of each run's networks; a run of which none answered is left out."""
    answers = []
    own = [[at for at, one in enumerate(found.networks) if one.run is run] for run in runs]
    num_runs = sum(bool(places) for places in own)
    for run, places in zip(runs, own, strict=True):
        if places:
            first = found.networks[places[0]]
            folds = [found.networks[at].fold for at in places]
            parts = [found.parts[at] for at in places]
            answers.append(
                Answer(
                    probabilities=weighted_mean(parts, [1.0] * len(parts)),
                    num_unreadable=test.num_unreadable(first.cache),
                    facts=facts_of(run, folds, first.predictor, 1 / num_runs),
                )
            )
    return answers
