"""The processes of one training: one, or several that torchrun started, which share each batch.

    torchrun --nproc-per-node 2 -m src.train --fold 0

Only rank 0 writes files. What ranks must agree on (signals, memory, skipped steps) goes through a group of its own on
the CPU, so that no step waits for a GPU.
"""

import atexit
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from src.core.errors import MISTAKE, InputError

CONNECT_TIMEOUT = timedelta(seconds=30)
BUCKET = 32 << 20  # bytes of gradients that are summed together
Value = TypeVar("Value")


class Elsewhere(SystemExit):
    """Ends a rank whose mistake rank 0 reports."""

    def __init__(self) -> None:
        super().__init__(MISTAKE)


@contextmanager
def _contact(rank: int) -> Iterator[None]:
    """Turn the error of a rank whose peer is gone, or does not answer in time, into one line."""
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's: torch has no class for it
        _lost.append(rank)
        reason = str(error).strip().split("\n")[0].rsplit("] ", 1)[-1][:120]
        raise InputError(
            f"rank {rank}: another rank ended or did not answer within --rank-timeout ({reason}); torchrun names the "
            "rank that failed first; the same command resumes from the last checkpoint"
        ) from error


@dataclass(frozen=True)
class World:
    """This process's place among `size` processes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on its machine: which GPU it takes
    timeout: timedelta = timedelta(minutes=10)  # after which a rank that waits for another one gives up

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share_of(self, count: int, rank: int) -> np.ndarray:
        """Return which of the `count` images of a batch a rank takes.

        Of each pair (first, last), (second, last but one) … it takes both or none. So images that are mixed with their
        partner in the reversed batch find it in the same rank's part, and the parts of all ranks make up the batch.
        """
        pairs = np.array_split(np.arange((count + 1) // 2), self.size)[rank]
        mirrored = count - 1 - pairs[::-1]
        return np.concatenate([pairs, mirrored[~np.isin(mirrored, pairs)]])

    def smallest_share(self, count: int) -> int:
        """Return a number of images of a batch of `count` that no rank has less of: ranks agree on it unasked."""
        return count if self.size == 1 else 2 * ((count + 1) // 2 // self.size) - count % 2

    def turns(self, batch_size: int) -> Iterator[int]:
        """Yield where this rank's batches begin if ranks take turns with whole ones.

        What each writes there, into zeros for all, is then joined by `sum`.
        """
        return itertools.count(self.rank * batch_size, self.size * batch_size)

    def _agree(self, error: Exception | None) -> None:
        """End all ranks if one met an error: rank 0 reports the first one, the others exit in silence."""
        found = [(rank, text) for rank, text in enumerate(self.all(str(error) if error else None)) if text is not None]
        if not found:
            return
        if not self.is_main:
            raise Elsewhere
        if error:
            raise error
        raise InputError(f"rank {found[0][0]}: {found[0][1]}")

    def together(self, function: Callable[[], Value]) -> Value:
        """Call a function on every rank and return its own result. An InputError on any of them ends all."""
        value, error = None, None
        try:
            value = function()
        except (InputError, OSError) as raised:
            if self.size == 1:
                raise
            error = raised
        if self.size > 1:
            self._agree(error)
        return value  # type: ignore[return-value]

    def main_first(self, function: Callable[[], Value]) -> Value:
        """Call a function on rank 0, which may write files, then on the others, which find them."""
        value = self.together(function) if self.size == 1 else None
        for turn in (True, False) if self.size > 1 else ():
            if self.is_main == turn:
                value = self.together(function)
            else:
                self._agree(None)
        return value  # type: ignore[return-value]

    def on_main(self, function: Callable[[], Value]) -> Value:
        """Call a function on rank 0 only; every rank gets its result. Its InputError ends all."""
        if self.size == 1:
            return function()
        sent: list[Any] = [self.together(function if self.is_main else lambda: None)]
        with _contact(self.rank):
            dist.broadcast_object_list(sent, src=0)
        value: Value = sent[0]
        return value

    def all(self, value: Value) -> list[Value]:
        """Return every rank's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _contact(self.rank):
            dist.all_gather_object(values, value)
        return values

    def most(self, *values: int) -> list[int]:
        """Return the greatest of each value over all ranks."""
        if self.size == 1:
            return list(values)
        together = torch.tensor(values)
        with _contact(self.rank):
            dist.all_reduce(together, dist.ReduceOp.MAX)
        return [int(value) for value in together.tolist()]

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by its sum over all ranks, in buckets of some MiB."""
        if self.size == 1:
            return
        gradients = [weights.grad for weights in parameters if weights.grad is not None]
        while gradients:
            bucket, size = [], 0
            while gradients and size < BUCKET:
                bucket.append(gradients.pop())
                size += bucket[-1].nbytes
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.sum(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its sum over all ranks, and return it."""
        if self.size > 1:
            with _contact(self.rank):
                dist.all_reduce(tensor, group=self._group(tensor.device))
        return tensor

    def copy_from_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        if self.size > 1:
            with _contact(self.rank):
                for tensor in tensors:
                    dist.broadcast(tensor, src=0, group=self._group(tensor.device))

    def exchange(self, parts: list[torch.Tensor], counts: list[int]) -> torch.Tensor:
        """Send parts[r] to rank r; return what all ranks sent to this one, by rank, concatenated.

        Parts agree in all but their first dimension; counts[r] is the length of what rank r sends to this one.
        """
        received = parts[0].new_empty((sum(counts), *parts[0].shape[1:]))
        with _contact(self.rank):
            sizes, group = [len(part) for part in parts], self._group(received.device)
            dist.all_to_all_single(received, torch.cat(parts), counts, sizes, group=group)
        return received

    def _group(self, device: torch.device) -> Any:
        """Return the group that moves tensors of a device: NCCL for GPUs, otherwise the default one, gloo."""
        if device.type != "cuda":
            return None
        if "cuda" not in _groups:
            _groups["cuda"] = dist.new_group(backend="nccl", timeout=self.timeout)
        return _groups["cuda"]


_groups: dict[str, Any] = {}
_lost: list[int] = []  # this rank, once it could not reach another one


def join_world(timeout: timedelta = World.timeout) -> World:
    """Return this process's place among those that torchrun started; alone without torchrun."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        with _contact(int(os.environ["RANK"])):
            _connect(timeout)
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")), timeout)


def _connect(timeout: timedelta) -> None:
    """Connect the ranks once all are there.

    In a store of their own: after a restart, torchrun's still holds the addresses of dead ranks. Connecting takes no
    time, so the limit is short then: if an address is wrong all the same, torchrun starts the ranks again.
    """
    found, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    attempt = [os.environ.get(name, "") for name in ("TORCHELASTIC_RESTART_COUNT", "WORLD_SIZE", "MASTER_PORT")]
    store = dist.PrefixStore("-".join(attempt), found)
    store.set(f"rank {rank}", "here")
    store.wait([f"rank {other}" for other in range(size)], timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=min(timeout, CONNECT_TIMEOUT))
    atexit.register(_leave)
    # Older versions of torch have only the second.
    set_timeout = getattr(dist.distributed_c10d, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    set_timeout(timeout, dist.group.WORLD)


def _leave() -> None:
    """End torch's threads before Python ends: one that outlives it aborts the process.

    Not NCCL's if a rank is lost: it would wait for it.
    """
    if dist.is_initialized() and not (_lost and "cuda" in _groups):
        dist.destroy_process_group()


def check_same(world: World, facts: dict[str, Any]) -> None:
    """Raise InputError, naming the rank and the difference, if a rank's facts differ from rank 0's."""
    first, *others = world.all(facts)
    for rank, other in enumerate(others, start=1):
        changed = [f"{name}: {first[name]} here, {other[name]} there" for name in facts if first[name] != other[name]]
        if changed and not world.is_main:
            raise Elsewhere
        if changed:
            raise InputError(f"rank {rank} was started differently than rank 0 ({'; '.join(changed)})")
