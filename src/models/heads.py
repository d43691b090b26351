"""From logits to predictions, head by head."""

import torch

from src.competitions.layout import HeadLayout


def probabilities_of(logits: torch.Tensor, layout: HeadLayout) -> torch.Tensor:
    """Return (B, num_outputs) float32 predictions: a softmax for each class head, the probability of each label, that
    the grade is above each but the last, and a number in the labels' own unit."""
    parts = []
    of_heads = zip(logits.float().split(layout.widths, dim=1), layout.kinds, layout.scales, strict=True)
    for part, kind, (mean, std) in of_heads:
        if kind == "class":
            parts.append(part.softmax(dim=1))
        else:
            parts.append(part * std + mean if kind == "number" else part.sigmoid())
    return torch.cat(parts, dim=1)
