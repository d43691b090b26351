"""From images to probabilities: validation, test and test-time augmentation all pass here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from src.competitions.spec import Competition, HeadLayout
from src.core.progress import Progress
from src.core.runtime import Compute, is_out_of_memory
from src.data.loader import Loader
from src.data.tta import tta_views, warped
from src.inference.autotune import Forward, Wanted, fastest
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
    tta: bool = True  # the mean over label-safe views, or the plain image only
    tune: bool = False  # whether to find the fastest batch size and try torch.compile first
    batch_size: int | None = None
    compile: Wanted = "off"

    def views(self, image_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return the views of an image by name, the original first, each an affine matrix (2, 3)."""
        views = tta_views(self.competition.hflip_ok, image_size)
        return views if self.tta else {"original": views["original"]}

    def describe(self) -> dict[str, Any]:
        """Return what the submission's JSON says of it."""
        how = {"device": self.compute.device.type, "precision": str(self.compute.dtype), "compile": self.compile}
        return how | {"batch_size": self.batch_size, "tta": self.tta}

    def predict(self, network: nn.Module, loader: Loader, name: str = "") -> Predictions:
        """Return the probabilities of a loader's images, in order; with a `name`, progress is shown."""
        loader, others = loader.in_order(self.batch_size), list(self.views(loader.image_size).values())[1:]
        forward: Forward = network
        if self.tune:
            forward, loader = fastest(network, loader, self.compute, 1 + len(others), self.batch_size, self.compile)
        return predict_probabilities(network, loader, self.competition.layout, self.compute, others, forward, name)

    def score(self, network: nn.Module, loader: Loader) -> float:
        """Return the score of a loader's images."""
        return score_of(self.predict(network, loader).mean, loader.targets, self.competition)


@torch.inference_mode()
def predict_probabilities(
    network: nn.Module,
    loader: Loader,
    layout: HeadLayout,
    compute: Compute,
    views: Sequence[np.ndarray] = (),
    forward: Forward | None = None,
    name: str = "",
) -> Predictions:
    """Predict a loader's images; each is gathered once for all views.

    `views` are affine matrices from `tta_views`, without the original. `forward` is the network, or a compiled form.
    """
    network.eval()
    forward = forward or network
    world, shape = loader.world, (len(loader.rows), layout.num_outputs)
    plain, mean = torch.zeros(shape), torch.zeros(shape)
    with Progress(name, len(loader.rows), "images") as progress:
        for start, batch in zip(world.turns(loader.batch_size), loader.epoch(0), strict=False):
            images = batch["image"].to(compute.device, non_blocking=True)
            here = slice(start, start + len(images))
            total = first = _forward(forward, images, layout, compute)
            for matrix in views:
                total = total + _forward(forward, images, layout, compute, matrix, loader.hflip_ok)
            plain[here], mean[here] = first, total / (1 + len(views))
            progress.update(len(images))
    return Predictions(world.sum(plain).numpy(), world.sum(mean).numpy())


def _forward(
    network: Forward,
    images: torch.Tensor,
    layout: HeadLayout,
    compute: Compute,
    matrix: np.ndarray | None = None,
    hflip_ok: bool = False,
) -> torch.Tensor:
    """Return the probabilities of images, or of one view of them; in halves if memory runs out."""
    try:
        seen = images if matrix is None else warped(images, matrix, hflip_ok)
        with compute.autocast():
            logits = network(seen)
        return probabilities_of(logits, layout)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(images) < 2:
            raise
    halves = images.tensor_split(2)
    return torch.cat([_forward(network, half, layout, compute, matrix, hflip_ok) for half in halves])
