"""Images spread over the devices of several ranks: each gets those of its part, in order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from src.config import Augment
from src.core.world import World
from src.data.augmentations import of_bands
from src.data.device import on_device
from tests.data.test_device import images, loader  # noqa: F401


class Threads:
    """Ranks that are threads of this process: each exchange waits for all of them."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, Barrier(size, timeout=20)
        self.sent: list[list[torch.Tensor]] = [[] for _ in range(size)]

    def world(self, rank: int) -> World:
        threads = self

        class Rank(World):
            def exchange(self, parts: list[torch.Tensor], counts: list[int]) -> torch.Tensor:
                threads.sent[self.rank] = parts
                threads.barrier.wait()
                received = [threads.sent[other][self.rank] for other in range(self.size)]
                threads.barrier.wait()
                assert list(map(len, received)) == counts
                return torch.cat(received)

        return Rank(rank, self.size)


@pytest.mark.parametrize("bands", [0, 1, 5])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (Augment(concat=0), {}),
        (Augment(concat=0.6), {}),
        (Augment(concat=0), {"progressive_resize": 0.5, "resize_epochs": 4}),
    ],
)
def test_shards_serve_the_batches_of_one_device(
    images: np.ndarray,  # noqa: F811
    size: int,
    bands: int,
    policy: Augment,
    options: dict[str, Any],
) -> None:
    if bands:
        images = np.repeat(images[..., :1].astype(np.uint16) * 16, bands, axis=3)  # noqa: F811
        policy = of_bands(policy)
    one, cpu, threads = loader(images, policy, **options), torch.device("cpu"), Threads(size)

    def served(rank: int, sharded: bool) -> list[torch.Tensor]:
        own = replace(one, world=threads.world(rank))
        return [batch["image"] for batch in on_device(own, cpu, False, sharded=sharded).epoch(1)]

    expected = [served(rank, sharded=False) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(lambda rank: served(rank, sharded=True), range(size)))
    for theirs, ours in zip(expected, found, strict=True):
        assert len(theirs) == len(ours) > 1
        assert {batch.dtype for batch in ours} == {torch.from_numpy(images).dtype}
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
