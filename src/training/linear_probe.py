"""Linear probe: train the last layer alone. Each image's features are computed once, so epochs take seconds.

The backbone keeps its pretrained weights; a first baseline within a minute on a laptop.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.progress import Progress
from src.core.runtime import Compute
from src.data.loader import Batch, Loader
from src.data.tta import tta_views, warp_batch
from src.metrics import score_of
from src.models.heads import probabilities_of
from src.models.network import Network


@dataclass(frozen=True, kw_only=True)
class Features:
    """Serves batches as `loader` would, with features (B, D) float32 instead of images, from each view in turn."""

    loader: Loader
    views: list[torch.Tensor]  # of the plain images, and of their horizontal flips if labels allow it; (N, D) each

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches, all or those from number `start`."""
        order = self.loader.order(epoch)
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            whole = order[first : first + self.batch_size]
            positions = self.loader.own(whole)
            yield {
                "index": torch.from_numpy(self.loader.rows[positions]),
                "image": self.views[epoch % len(self.views)][positions],
                "target": torch.from_numpy(self.loader.targets[positions]),
                "count": len(whole),
            }


class LinearProbe(nn.Module):
    """The last layer of a network, as a network on features: (B, D) to logits (B, num_outputs)."""

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        super().__init__()
        backbone: Any = network.backbone
        if not all(hasattr(backbone, name) for name in ("get_classifier", "forward_features", "forward_head")):
            raise InputError(f"--freeze-backbone: {type(backbone).__name__} has no forward_features and forward_head")
        layer = backbone.get_classifier()
        if not isinstance(layer, nn.Linear):
            raise InputError(f"--freeze-backbone: {type(backbone).__name__} does not end in one linear layer")
        self.dropout = nn.Dropout(dropout)
        self.layer = copy.deepcopy(layer)  # trained here; the network's own layer receives the weights that are saved

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(self.dropout(features))
        return logits


@torch.no_grad()
def _features(network: Network, loader: Loader, compute: Compute, matrix: np.ndarray | None, name: str) -> torch.Tensor:
    backbone: Any = network.backbone
    loader, world = loader.in_order(), loader.world
    features = torch.zeros(len(loader.rows), backbone.get_classifier().in_features)
    with Progress(name, len(loader.rows), "images") as progress:
        for start, batch in zip(world.turns(loader.batch_size), loader.epoch(0), strict=False):
            images = batch["image"]
            if matrix is not None:
                images = torch.from_numpy(warp_batch(images.numpy(), matrix, loader.hflip_ok))
            with compute.autocast():
                features[start : start + len(images)] = network.features(images.to(compute.device))
            progress.update(len(images))
    return world.sum(features)


def serve_features(
    network: Network, loader: Loader, val: Loader, competition: Competition, compute: Compute
) -> tuple[Features, Callable[[nn.Module], float]]:
    """Compute all features; return their loader, and the function that scores a LinearProbe on the val ones."""
    network.eval()
    views: list[np.ndarray | None] = [None]
    if loader.policy and loader.policy.hflip:
        views.append(tta_views(True, loader.image_size)["original, flipped"])
    count = len(loader.rows) * len(views) + len(val.rows)
    print(f"computing features of {count:,} images once; the epochs after that take seconds", flush=True)
    served = Features(
        loader=loader, views=[_features(network, loader, compute, view, "features, train") for view in views]
    )
    val_features = _features(network, val, compute, None, "features, val")

    @torch.no_grad()
    def score(scored: nn.Module) -> float:
        logits = scored.eval()(val_features.to(compute.device))
        probabilities = probabilities_of(logits, competition.layout).cpu().numpy()
        return score_of(probabilities, val.targets, competition)

    return served, score


def with_linear_probe(network: Network, last: nn.Module) -> Network:
    """Return the network with the trained last layer."""
    assert isinstance(last, LinearProbe)
    backbone: Any = network.backbone
    backbone.get_classifier().load_state_dict(last.layer.state_dict())
    return network
