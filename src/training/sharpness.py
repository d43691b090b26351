"""Sharpness-aware steps: the gradient is taken where the loss is highest nearby, so that training ends in flat valleys.

Source: Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@torch.no_grad()
def _moved(weights: Sequence[torch.Tensor], rho: float) -> list[torch.Tensor]:
    """Move weights by a step of length `rho` along their gradients; return copies of what they were."""
    before = [each.detach().clone() for each in weights]
    gradients = [each.grad for each in weights if each.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # Infinite gradients are those of a step that will be skipped: nothing moves.
    scale = torch.where(torch.isfinite(norm) & (norm > 0), rho / norm, 0)
    for each, gradient in zip(weights, gradients, strict=True):
        each.add_(torch.nan_to_num(gradient) * scale)
    return before


@contextmanager
def sharpest_nearby(network: nn.Module, rho: float) -> Iterator[None]:
    """Within, the weights lie where the loss is highest in a distance of `rho`, by their gradients, which are cleared.

    Batch norm's running averages stay those of the weights themselves.
    """
    weights: list[torch.Tensor] = [each for each in network.parameters() if each.grad is not None]
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    before = _moved(weights, rho)
    try:
        for each in weights:
            each.grad = None
        for module in norms:
            module.momentum = 0.0
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
