"""Images in the memory of several GPUs: each rank holds a part of them, and sends others what their batches need.

For caches that one GPU has no room for. The batches are the same as from the machine's memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from src.core.world import World


@dataclass(frozen=True)
class ShardedImages:
    """This rank's images, on its device: (ceil((M - rank) / size), H, W, bytes) uint8, every size-th of M."""

    own: torch.Tensor
    world: World

    def pick(self, wanted: Sequence[np.ndarray]) -> torch.Tensor:
        """Return the images at this rank's positions. `wanted` are those of every rank, and all ranks call at once."""
        rank, size = self.world.rank, self.world.size
        held = [torch.from_numpy(positions[positions % size == rank] // size) for positions in wanted]
        parts = [self.own[positions.to(self.own.device, non_blocking=True)] for positions in held]
        holders = wanted[rank] % size
        received = self.world.exchange(parts, np.bincount(holders, minlength=size).tolist())
        # They arrive in the order of their holders; within one, in the order of this rank's batch.
        arrived_at = np.argsort(np.argsort(holders, kind="stable"), kind="stable")
        return received[torch.from_numpy(arrived_at).to(received.device, non_blocking=True)]
