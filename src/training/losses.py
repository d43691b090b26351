"""Losses by the name that --loss gives them, for each kind of head; `loss_of` averages them over all heads.

To add one: a function here and its name in LOSSES; if it needs no labels, its name in WITHOUT_LABELS of config too, and
layers of its own in pretraining.py.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from src.competitions.layout import HeadLayout, Kind

# logits, target, label_smoothing, weight -> the mean over images (and labels), a scalar
Loss = Callable[[torch.Tensor, torch.Tensor, float, torch.Tensor | None], torch.Tensor]


def _mean(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return (losses if weight is None else losses * weight).mean()


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean over images; logits (B, num_classes) float32, target (B,) ids or (B, num_classes) shares."""
    if weight is None:
        return functional.cross_entropy(logits, target, label_smoothing=label_smoothing)
    losses = functional.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
    return _mean(losses, weight)


def focal(
    logits: torch.Tensor,
    target: torch.Tensor,
    label_smoothing: float,
    weight: torch.Tensor | None = None,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Return cross-entropy that counts less the surer the network is of the true class.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017.
    """
    losses = functional.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
    shares = logits.softmax(dim=1)
    sure = (shares * target).sum(dim=1) if target.ndim == 2 else shares.gather(1, target[:, None])[:, 0]
    return _mean((1 - sure) ** gamma * losses, weight)


def binary_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean over images and labels; logits, target and weight (B, num_labels), target in [0, 1]."""
    smoothed = target * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, smoothed, weight)


def binary_focal(
    logits: torch.Tensor,
    target: torch.Tensor,
    label_smoothing: float,
    weight: torch.Tensor | None = None,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Return binary cross-entropy that counts less the surer the network is; source as of `focal`."""
    smoothed = target * (1 - label_smoothing) + label_smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    shares = logits.sigmoid()
    sure = shares * target + (1 - shares) * (1 - target)
    return _mean((1 - sure) ** gamma * losses, weight)


def contrastive(
    logits: torch.Tensor,
    target: torch.Tensor,
    label_smoothing: float,
    weight: torch.Tensor | None = None,
    temperature: float = 0.2,
) -> torch.Tensor:
    """Return the supervised contrastive loss of embeddings `logits` (B, D); target (B,) says which are of one class.

    An image without another of its class in the batch does not count. Source: Chen et al., A Simple Framework for
    Contrastive Learning, 2020; for several images of one class Khosla et al., Supervised Contrastive Learning, 2020.
    """
    directions = functional.normalize(logits, dim=1)
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    logs = (directions @ directions.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    same = (target[:, None] == target[None]) & ~itself
    losses = -logs.where(same, 0).sum(dim=1) / same.sum(dim=1).clamp(min=1)
    has = same.any(dim=1).float() if weight is None else same.any(dim=1) * weight
    return (losses * has).sum() / has.sum().clamp(min=1e-6)


def simsiam(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return minus the mean cosine of each image's prediction and the projections of its copies.

    logits (B, 2 * D): projections, through which no gradient flows, and predictions; target (B,) says which images are
    copies of one. An image without a copy in the batch does not count. Sources: Siamese and Byol in
    training.pretraining.
    """
    projected, predicted = (functional.normalize(part, dim=1) for part in logits.tensor_split(2, dim=1))
    copies = (target[:, None] == target[None]).fill_diagonal_(False)
    cosines = (predicted @ projected.detach().T * copies).sum(dim=1) / copies.sum(dim=1).clamp(min=1)
    has = copies.any(dim=1).float() if weight is None else copies.any(dim=1) * weight
    return -(cosines * has).sum() / has.sum().clamp(min=1e-6)


def mean_error(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean of each image's error, logits (B, 1): of Rotation or MaskedPixels in training.pretraining."""
    return _mean(logits[:, 0], weight)


LOSSES: dict[str, dict[Kind, Loss]] = {  # of classes, and of answers that are yes or no
    "cross_entropy": {"class": cross_entropy, "labels": binary_cross_entropy},
    "focal": {"class": focal, "labels": binary_focal},
    "contrastive": {"class": contrastive},
    "simsiam": {"class": simsiam},
    "byol": {"class": simsiam},
    "rotation": {"class": mean_error},
    "masked": {"class": mean_error},
}


def _of_head(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    kind: Kind,
    scale: tuple[float, float],
    loss: str,
    label_smoothing: float,
    soft: bool,
) -> torch.Tensor:
    """Return one head's loss; logits (B, outputs), target and weight (B, targets), or target (B, outputs) if soft."""
    if kind == "class":
        of_image = weight if weight is None else weight[:, 0]
        return LOSSES[loss]["class"](logits, target.float() if soft else target[:, 0].long(), label_smoothing, of_image)
    if kind == "labels":
        return LOSSES[loss]["labels"](logits, target.float(), label_smoothing, weight)
    if kind == "ordinal":  # of each grade but the last: is the answer above it?
        grades = torch.arange(logits.shape[1], device=logits.device)
        above = target.float() if soft else (target > grades).float()
        return LOSSES[loss]["labels"](logits, above, label_smoothing, weight)
    mean, std = scale
    return _mean(((target.float() - mean) / std - logits) ** 2, weight)


def loss_of(
    logits: torch.Tensor,
    target: torch.Tensor,
    layout: HeadLayout,
    loss: str,
    label_smoothing: float = 0.0,
    weight: torch.Tensor | None = None,
    soft: bool = False,
) -> torch.Tensor:
    """Return the loss averaged over heads and images; logits (B, num_outputs), target (B, num_targets).

    If `soft`, targets are (B, num_outputs) probabilities. `weight` (B, num_targets) is what each target counts.
    """
    parts = logits.float().split(layout.widths, dim=1)
    targets = target.split(layout.widths if soft else layout.target_widths, dim=1)
    weights = weight.split(layout.target_widths, dim=1) if weight is not None else (None,) * len(parts)
    each = zip(parts, targets, weights, layout.kinds, layout.scales, strict=True)
    return torch.stack([_of_head(*head, loss, label_smoothing, soft) for head in each]).mean()
