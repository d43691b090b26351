"""Whether a pretraining without labels has collapsed: how many directions the features of training images fill.

    python -m benchmarks.effective_rank --competition food11:instances --run-name simsiam byol

The effective rank is exp of the entropy of the normalised eigenvalues of the features' covariance: 1 if all images lie
on one line, the number of features at most (Roy and Vetterli, The effective rank, 2007). The first row is the first
run's network before any training.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from src.config import Paths
from src.core import cli
from src.core.errors import InputError
from src.models.network import Network
from src.runs.run import build_network, open_run

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class RankConfig(Paths):
    """Whose networks are looked at."""

    run_name: tuple[str, ...] = ("baseline",)
    fold: int = 0
    count: int = 1024
    """Training images, evenly over the cache."""


def effective_rank(features: torch.Tensor) -> float:
    """Return exp of the entropy of the eigenvalues' shares of the covariance of features (N, D)."""
    values = torch.linalg.svdvals((features - features.mean(0)).double()) ** 2
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


@torch.no_grad()
def features_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the last layer's inputs (N, D) for images (N, H, W, C)."""
    assert isinstance(network, Network)
    return torch.cat([network.features(batch) for batch in images.split(BATCH)])


def main(config: RankConfig) -> None:
    """Print a row per run. Raises InputError for runs that are not trained."""
    runs = [open_run(config, name) for name in config.run_name]
    if len({run.started_record.model.image_size for run in runs}) > 1:
        raise InputError("--run-name: these runs see images of different sizes; name those of one size")
    cache = runs[0].prepared.cache("train", runs[0].started_record.cache_size)
    rows = np.linspace(0, len(cache.images) - 1, min(config.count, len(cache.images))).astype(np.int64)
    images = torch.from_numpy(np.asarray(cache.images[rows])).view(len(rows), *cache.image_size, -1)
    torch.manual_seed(0)
    untrained = build_network(runs[0].started_record.model).train()  # its batch norm knows no statistics yet
    print(f"untrained: effective rank {effective_rank(features_of(untrained, images)):.1f}")
    for run in runs:
        network = run.load_network(run.trained((config.fold,))[0])
        print(f"{run.name}: effective rank {effective_rank(features_of(network, images)):.1f}")


if __name__ == "__main__":
    cli.run(main, RankConfig, __doc__)
