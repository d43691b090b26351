"""Logits are always (B, sum of num_classes); everything that knows about heads loops over them here."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from src.competitions.spec import Competition, Head


def num_classes_per_head(heads: Sequence[Head]) -> list[int]:
    """Return the number of classes of each head."""
    return [head.num_classes for head in heads]


def loss_of(
    logits: torch.Tensor, target: torch.Tensor, heads: Sequence[Head], label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the cross-entropy averaged over heads and images; logits (B, sum), target (B, num_heads) int64."""
    parts = logits.float().split(num_classes_per_head(heads), dim=1)
    losses = [
        functional.cross_entropy(part, target[:, place], label_smoothing=label_smoothing)
        for place, part in enumerate(parts)
    ]
    return torch.stack(losses).mean()


def probabilities_of(logits: torch.Tensor, heads: Sequence[Head]) -> torch.Tensor:
    """Return (B, sum) float32: a softmax for each head."""
    parts = logits.float().split(num_classes_per_head(heads), dim=1)
    return torch.cat([part.softmax(dim=1) for part in parts], dim=1)


def most_probable(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N, num_heads) int64 class ids of the most probable legal answer; probabilities (N, sum).

    Without a blank each head decides alone. With one, only strings of one or more classes followed by blanks are
    legal: of all lengths the most probable is taken, so that no class ever follows a blank.
    """
    parts = np.split(probabilities, np.cumsum(num_classes_per_head(competition.heads))[:-1], axis=1)
    if competition.pad_class is None:
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)
    logs = np.log(np.stack(parts, axis=1).astype(np.float64) + 1e-12)  # (N, num_heads, num_classes)
    pad_class = logs[:, :, competition.pad_class].copy()
    logs[:, :, competition.pad_class] = -np.inf
    ids, filled = logs.argmax(axis=2), logs.max(axis=2)
    num_heads = ids.shape[1]
    by_length = [
        filled[:, :length].sum(axis=1) + pad_class[:, length:].sum(axis=1) for length in range(1, num_heads + 1)
    ]
    length = np.argmax(by_length, axis=0) + 1
    return np.where(np.arange(num_heads) < length[:, None], ids, competition.pad_class)
