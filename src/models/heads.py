"""From logits (B, num_outputs) to probabilities and answers, head by head."""

import numpy as np
import torch

from src.competitions.spec import Competition, HeadLayout


def probabilities_of(logits: torch.Tensor, layout: HeadLayout) -> torch.Tensor:
    """Return (B, num_outputs) float32: a softmax for each head."""
    parts = logits.float().split(layout.widths, dim=1)
    return torch.cat([part.softmax(dim=1) for part in parts], dim=1)


def most_probable(probabilities: np.ndarray, competition: Competition) -> np.ndarray:
    """Return (N, num_heads) int64 class ids of the most probable legal answer; probabilities (N, num_outputs).

    Without a pad class each head decides alone. With one, only strings of one or more classes followed by padding are
    legal: the most probable over all lengths is taken, so that no class ever follows the pad class.
    """
    parts = competition.layout.split(probabilities)
    if competition.pad_class is None:
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)
    logs = np.log(np.stack(parts, axis=1).astype(np.float64) + 1e-12)  # (N, num_heads, num_classes)
    pad = logs[:, :, competition.pad_class].copy()
    logs[:, :, competition.pad_class] = -np.inf
    ids, filled = logs.argmax(axis=2), logs.max(axis=2)
    num_heads = ids.shape[1]
    by_length = [filled[:, :length].sum(axis=1) + pad[:, length:].sum(axis=1) for length in range(1, num_heads + 1)]
    length = np.argmax(by_length, axis=0) + 1
    return np.where(np.arange(num_heads) < length[:, None], ids, competition.pad_class)
