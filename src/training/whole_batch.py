"""A forward pass over part of a batch that draws at random, and if asked to normalises, as over the whole batch.

So neither the number of ranks nor that of micro-batches changes which values dropout sets to zero.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from src.core.world import World

DRAWS = (torch.Tensor.bernoulli_, torch.Tensor.uniform_, torch.Tensor.random_)
DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)


class _Sum(torch.autograd.Function):
    """Sum a tensor over all ranks; so is its gradient, as every rank's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, world: World) -> torch.Tensor:
        ctx.world = world
        return world.sum(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.world.sum(gradient.clone()), None


def batch_norm_over_ranks(
    world: World,
    images: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """Return images (B, C, ...) normalised by the mean and variance over all ranks; update the running averages.

    torch's SyncBatchNorm does the same on GPUs only. The variance is summed in a second pass, which loses no digits.
    """
    dims, shape = [0, *range(2, images.dim())], [1, -1, *[1] * (images.dim() - 2)]
    values = images.float()
    own = values.new_tensor([values.numel() / values.shape[1]])
    sums: torch.Tensor = _Sum.apply(torch.cat([values.sum(dims), own]), world)
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centred = values - mean.view(shape)
    var: torch.Tensor = _Sum.apply(centred.square().sum(dims), world) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * count / (count - 1), momentum)
    scale = torch.rsqrt(var + eps)
    out = centred * (scale if weight is None else scale * weight).view(shape)
    return (out if bias is None else out + bias.view(shape)).to(images.dtype)


class WholeBatch(TorchFunctionMode):
    """While active, `rows` (B,) of a batch of `count` images pass a network that is being trained.

    Whatever is drawn for each image (dropout, stochastic depth, the turns of --loss rotation) is drawn for all `count`
    images, and what belongs to the others is thrown away. Dropout within fused attention is not seen: there, draws
    depend on the number of ranks.
    """

    def __init__(self, rows: torch.Tensor, count: int, world: World, sync_batch_norm: bool) -> None:
        super().__init__()
        self.rows, self.count, self.world, self.sync_batch_norm = rows, count, world, sync_batch_norm

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DROPOUTS:
            return self._dropout(func, *args, **kwargs)
        if func in DRAWS and args[0].shape[0] == len(self.rows):
            return args[0].copy_(func(self._whole(args[0]), *args[1:], **kwargs)[self.rows])
        if func is functional.batch_norm and self.sync_batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _whole(self, part: torch.Tensor) -> torch.Tensor:
        """Return a tensor like `part`, but of the whole batch, in the same order of memory."""
        channels_last = part.dim() == 4 and not part.is_contiguous()
        order = torch.channels_last if channels_last else torch.contiguous_format
        shape = (self.count, *part.shape[1:])
        return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=order)

    def _dropout(
        self, func: Any, part: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0 or part.shape[0] != len(self.rows):
            result: torch.Tensor = func(part, p, training, inplace)
            return result
        mask: torch.Tensor = func(self._whole(part.detach()).fill_(1), p)[self.rows]
        return part * mask

    def _batch_norm(
        self,
        images: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return functional.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
        return batch_norm_over_ranks(self.world, images, running_mean, running_var, weight, bias, momentum, eps)
