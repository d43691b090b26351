"""Features of a cache's images, for linear probes: computed once and kept beside it, for every fold and other runs.

A file is named by a hash of all that its numbers depend on: the network, its weights, the view, precision, versions.
"""

import hashlib
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.core.locking import locked
from src.core.progress import Progress
from src.core.runtime import Compute
from src.core.writing import write_arrays
from src.data.loader import Loader
from src.data.tta import tta_views, warp_batch
from src.models.network import Network
from src.runs.versions import versions

PLAIN, FLIPPED = "original", "original, flipped"


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """Where features are kept, and the network's name and options, which its weights do not say."""

    cache: Path  # the .npy
    network: str

    def file(self, network: Network, loader: Loader, compute: Compute, view: str) -> Path:
        """Return the path of one view's features."""
        how = (loader.image_size, loader.hflip_ok, view, str(compute.device.type), str(compute.dtype), versions(),
               torch.are_deterministic_algorithms_enabled(), self.network)  # fmt: skip
        digest = hashlib.sha256(repr(how).encode())
        for values in (*_frozen(network), network.normalise.shift, network.normalise.scale):
            digest.update(np.ascontiguousarray(values.detach().float().cpu().numpy()).tobytes())
        return self.cache.with_name(f"{self.cache.stem}_{digest.hexdigest()[:12]}.npz")


def _frozen(network: Network) -> list[torch.Tensor]:
    """Return all tensors of the backbone but those of its last layer."""
    backbone: Any = network.backbone
    last = {id(value) for value in backbone.get_classifier().parameters()}
    return [value for value in (*backbone.parameters(), *backbone.buffers()) if id(value) not in last]


def features_of(network: Network, loader: Loader, compute: Compute, store: FeatureStore, view: str) -> torch.Tensor:
    """Return features (N, D) float32 of all rows of the loader's cache. All ranks call this at once."""
    world = compute.world
    path = world.on_main(lambda: store.file(network, loader, compute, view))
    with ExitStack() as stack:
        if world.size == 1:  # of several tasks of a sweep the first one computes, the others wait
            stack.enter_context(locked(path, "computes these features", wait=True))
        kept = world.on_main(lambda: _kept(path))
        if kept is not None:
            return torch.from_numpy(kept)
        print(f"computing features of {len(loader.images):,} images once ({view}), for all folds and runs", flush=True)
        matrix = None if view == PLAIN else tta_views(True, loader.image_size)[view]
        found = _computed(network, loader, compute, matrix, f"features, {view}")
        world.on_main(lambda: _keep(path, found))
    return found


def _kept(path: Path) -> np.ndarray | None:
    """Return what a file holds, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:  # the zip's checksum is compared
            return np.asarray(arrays["features"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(path: Path, features: torch.Tensor) -> None:
    """Write features, if there is room: they can be computed again."""
    try:
        write_arrays(path, features=features.numpy())
    except OSError as error:
        print(f"note: {path} was not kept ({error.strerror or error})")


@torch.no_grad()
def _computed(network: Network, loader: Loader, compute: Compute, matrix: np.ndarray | None, name: str) -> torch.Tensor:
    backbone: Any = network.backbone
    count = len(loader.images)
    rows = np.arange(count)
    everything = replace(loader.in_order(), rows=rows, targets=rows[:, None], shares=None, variants=None)
    found, world = torch.zeros(count, backbone.get_classifier().in_features), loader.world
    with Progress(name, count, "images") as progress:
        for start, batch in zip(world.turns(everything.batch_size), everything.epoch(0), strict=False):
            images = batch["image"]
            if matrix is not None:
                images = torch.from_numpy(warp_batch(images.numpy(), matrix, loader.hflip_ok))
            with compute.autocast():
                found[start : start + len(images)] = network.features(images.to(compute.device))
            progress.update(len(images))
    return world.sum(found)
