"""Linear probe: train the last layer alone, on features that are computed once, so epochs take seconds.

The backbone keeps its pretrained weights; a first baseline within a minute on a laptop.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from src.competitions.spec import Competition
from src.core.runtime import Compute
from src.data.loader import Batch, Loader
from src.metrics import score_of
from src.models.contract import linear_last_layer
from src.models.heads import probabilities_of
from src.models.network import Network
from src.training.features import FLIPPED, PLAIN, FeatureStore, features_of


@dataclass(frozen=True, kw_only=True)
class Features:
    """Serves batches as `loader` would, with features (B, D) float32 instead of images, from each view in turn."""

    loader: Loader
    views: list[torch.Tensor]  # of all rows of the cache, and of their flips if labels allow it; (N, D) each

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    @property
    def num_images(self) -> int:
        return self.loader.num_images

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches, all or those from number `start`."""
        order = self.loader.order(epoch)
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            whole = order[first : first + self.batch_size]
            positions = self.loader.own(whole)
            rows, target = self.loader.rows[positions], self.loader.targets[positions]
            batch: Batch = {
                "index": torch.from_numpy(rows),
                "image": self.views[epoch % len(self.views)][rows],
                "target": torch.from_numpy(target),
                "count": len(whole),
            }
            if self.loader.weights:
                batch["weight"] = torch.from_numpy(self.loader.weights.of(positions, target))
            yield batch


class LinearProbe(nn.Module):
    """The last layer of a network, as a network on features: (B, D) to logits (B, num_outputs)."""

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        super().__init__()
        layer = linear_last_layer(network.backbone, "--freeze-backbone")
        self.dropout = nn.Dropout(dropout)
        self.layer = copy.deepcopy(layer)  # trained here; the network's own layer receives the weights that are saved

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(self.dropout(features))
        return logits


def serve_features(
    network: Network, loader: Loader, val: Loader, competition: Competition, compute: Compute, store: FeatureStore
) -> tuple[Features, Callable[[nn.Module], float]]:
    """Return a loader of features instead of images, and the function that scores a LinearProbe on the val ones.

    Both loaders read one cache, that of `store`. Images are flipped if their labels stay the same.
    """
    network.eval()
    flips = loader.policy and loader.policy.hflip and not loader.follow
    features = [features_of(network, loader, compute, store, view) for view in (PLAIN, FLIPPED)[: 1 + bool(flips)]]
    val_features = features[0][val.rows]

    @torch.no_grad()
    def score(scored: nn.Module) -> float:
        logits = scored.eval()(val_features.to(compute.device))
        probabilities = probabilities_of(logits, competition.layout).cpu().numpy()
        return score_of(probabilities, val.targets, competition)

    return Features(loader=loader, views=features), score


def with_linear_probe(network: Network, last: nn.Module) -> Network:
    """Return the network with the trained last layer."""
    assert isinstance(last, LinearProbe)
    backbone: Any = network.backbone
    backbone.get_classifier().load_state_dict(last.layer.state_dict())
    return network
