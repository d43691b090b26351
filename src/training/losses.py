"""Losses of one head, by the name that --loss gives them; `loss_of` averages one over all heads.

To add one: a function here and its name in LOSSES.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from src.competitions.spec import HeadLayout

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Return the mean over images; logits (B, num_classes) float32, target (B,) int64 class ids."""
    return functional.cross_entropy(logits, target, label_smoothing=label_smoothing)


def focal(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, gamma: float = 2.0) -> torch.Tensor:
    """Return cross-entropy that counts less the surer the network is of the true class.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017.
    """
    losses = functional.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
    sure = logits.softmax(dim=1).gather(1, target[:, None])[:, 0]
    return ((1 - sure) ** gamma * losses).mean()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "focal": focal}


def loss_of(
    logits: torch.Tensor, target: torch.Tensor, layout: HeadLayout, loss: str, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the loss averaged over heads and images; logits (B, num_outputs), target (B, num_heads) int64."""
    parts = logits.float().split(layout.widths, dim=1)
    one_head = LOSSES[loss]
    return torch.stack([one_head(part, target[:, i], label_smoothing) for i, part in enumerate(parts)]).mean()
