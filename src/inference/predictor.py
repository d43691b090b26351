"""From images to probabilities: validation, test and test-time augmentation all pass here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from src.competitions.decision import decide
from src.competitions.layout import HeadLayout
from src.competitions.spec import Competition
from src.core.progress import Progress
from src.core.runtime import Compute, is_out_of_memory
from src.data.loader import Loader
from src.data.tta import View, warped
from src.inference.autotune import Engine, Forward, InferenceBackend, Wanted, fastest
from src.inference.quality import confidence_of
from src.inference.views import candidates
from src.metrics import score_of
from src.models.heads import probabilities_of


class Predictions(NamedTuple):
    """Two (N, num_outputs) float32 arrays: of the plain images, and the mean over them and all other views."""

    plain: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """How images are answered. One object serves the score after an epoch, oof.npz, predict and blend."""

    competition: Competition
    compute: Compute
    tta: bool = True  # the mean over views, or the plain image only
    view_names: tuple[str, ...] = ()  # views by name, see src.inference.views
    confidence_threshold: float | None = None  # from which the plain image answers alone; None: all views for all
    tune: bool = False  # whether to find the fastest batch size and try torch.compile first
    batch_size: int | None = None
    compile: Wanted = "off"
    engine: Engine = "torch"

    def views(self, image_size: tuple[int, int]) -> dict[str, View]:
        """Return the views of an image by name, the original first."""
        found = candidates(self.view_names, self.competition, image_size)
        return found if self.tta else {"original": found["original"]}

    def describe(self) -> dict[str, Any]:
        """Return what the submission's JSON says of it."""
        how = {"device": self.compute.device.type, "precision": str(self.compute.dtype), "compile": self.compile}
        return how | {"engine": self.engine, "batch_size": self.batch_size, "tta": self.tta}

    def is_unsure(self, plain: np.ndarray) -> np.ndarray:
        """Return which images need further views, (N,) bool, from predictions (N, num_outputs) of the plain ones."""
        assert self.confidence_threshold is not None
        return confidence_of(plain, decide(plain, self.competition), self.competition) < self.confidence_threshold

    def predict(self, network: nn.Module, loader: Loader, name: str = "") -> Predictions:
        """Return the probabilities of a loader's images, in order; with a `name`, progress is shown."""
        return self.predict_by(network, loader, name)[0]

    def predict_by(self, network: nn.Module, loader: Loader, name: str = "") -> tuple[Predictions, str]:
        """Return the same, and what ran the network, see `InferenceBackend`."""
        loader, others = loader.in_order(self.batch_size), list(self.views(loader.image_size).values())[1:]
        layout, backend = self.competition.layout, InferenceBackend(network, loader, "torch")
        if self.tune:
            number, size = 1 + len(others), self.batch_size
            backend = fastest(network, loader, self.compute, number, size, self.compile, self.engine, layout)

        def predicted(served: Loader, views: Sequence[View], title: str) -> Predictions:
            return predict_probabilities(network, served, layout, self.compute, views, backend.forward, title)

        if self.confidence_threshold is None:
            return predicted(backend.loader, others, name), backend.engine
        plain = predicted(backend.loader, (), name).plain
        unsure, mean = self.is_unsure(plain), plain.copy()
        if unsure.any():
            part = replace(backend.loader, rows=backend.loader.rows[unsure], targets=backend.loader.targets[unsure])
            mean[unsure] = predicted(part, others, f"{name}, further views").mean
        return Predictions(plain, mean), backend.engine

    @torch.inference_mode()
    def predict_each(self, network: nn.Module, loader: Loader, name: str = "") -> np.ndarray:
        """Return the predictions of every view, (V, N, num_outputs) float32, in the order of `views`."""
        loader, others = loader.in_order(self.batch_size), list(self.views(loader.image_size).values())[1:]
        each = torch.zeros(1 + len(others), len(loader.rows), self.competition.layout.num_outputs)
        layout = self.competition.layout
        of_batches = _predicted(network, loader, layout, self.compute, [None, *others], network, name)
        for here, views in of_batches:
            for view, predicted in enumerate(views):
                each[view, here] = predicted.cpu()
        return loader.world.sum(each).numpy()

    @torch.inference_mode()
    def predict_view(self, network: nn.Module, loader: Loader, name: str) -> np.ndarray:
        """Return the predictions of one view alone, by its name in `views`, (N, num_outputs) float32."""
        loader, layout = loader.in_order(self.batch_size), self.competition.layout
        view = None if name == "original" else self.views(loader.image_size)[name]
        found = torch.zeros(len(loader.rows), layout.num_outputs)
        for here, (predicted,) in _predicted(network, loader, layout, self.compute, [view], network, ""):
            found[here] = predicted.cpu()
        return loader.world.sum(found).numpy()

    def score(self, network: nn.Module, loader: Loader) -> float:
        """Return the score of a loader's images."""
        return score_of(self.predict(network, loader).mean, loader.targets, self.competition)


@torch.inference_mode()
def predict_probabilities(
    network: nn.Module,
    loader: Loader,
    layout: HeadLayout,
    compute: Compute,
    views: Sequence[View] = (),
    forward: Forward | None = None,
    name: str = "",
) -> Predictions:
    """Predict a loader's images; each is gathered once for all views.

    `views` come without the original. `forward` is the network, or a compiled form.
    """
    world, shape = loader.world, (len(loader.rows), layout.num_outputs)
    plain, mean = torch.zeros(shape), torch.zeros(shape)
    for here, each in _predicted(network, loader, layout, compute, [None, *views], forward or network, name):
        total = first = next(each)
        for predicted in each:
            total = total + predicted
        plain[here], mean[here] = first, total / (1 + len(views))
    return Predictions(world.sum(plain).numpy(), world.sum(mean).numpy())


def _predicted(
    network: nn.Module,
    loader: Loader,
    layout: HeadLayout,
    compute: Compute,
    views: Sequence[View | None],
    forward: Forward,
    name: str,
) -> Iterator[tuple[slice, Iterator[torch.Tensor]]]:
    """Yield which images each batch of this rank holds, and their predictions, view by view; None is the plain one."""
    network.eval()
    with Progress(name, len(loader.rows), "images") as progress:
        for start, batch in zip(loader.world.turns(loader.batch_size), loader.epoch(0), strict=False):
            images = batch["image"].to(compute.device, non_blocking=True)
            seen = (_forward(forward, images, layout, compute, view, loader.hflip_ok) for view in views)
            yield slice(start, start + len(images)), seen
            progress.update(len(images))


def _forward(
    network: Forward,
    images: torch.Tensor,
    layout: HeadLayout,
    compute: Compute,
    view: View | None = None,
    hflip_ok: bool = False,
) -> torch.Tensor:
    """Return the probabilities of images, or of one view of them; in halves if memory runs out."""
    try:
        seen = images if view is None else warped(images, view, hflip_ok)
        with compute.autocast():
            logits = network(seen)
        return probabilities_of(logits, layout)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(images) < 2:
            raise
    halves = images.tensor_split(2)
    return torch.cat([_forward(network, half, layout, compute, view, hflip_ok) for half in halves])
