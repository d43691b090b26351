"""--length-head and --box-head: while it is trained, a network also says how long the string is, and where.

The auxiliary heads see the features of the last layer.
Source: Goodfellow et al., Multi-digit Number Recognition from Street View Imagery, 2014, where the length is an answer.
"""

import torch
from torch import nn
from torch.nn import functional

from src.competitions.boxes import HEADS, SIDES
from src.competitions.spec import Competition
from src.config import TrainConfig, TrainSettings
from src.core.errors import InputError
from src.core.flags import check_apart, check_range
from src.models.contract import linear_last_layer
from src.models.network import Network, Wrapper

FLAGS = ("length_head", "box_head")


def auxiliary_flags(settings: TrainSettings) -> list[str]:
    """Return the flags of auxiliary heads that are in use."""
    return [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(settings, name)]


def num_auxiliary(settings: TrainSettings, num_positions: int) -> int:
    """Return how many outputs the auxiliary heads have: of lengths 0 to num_positions, then of the box's sides."""
    return (num_positions + 1) * bool(settings.length_head) + len(SIDES) * bool(settings.box_head)


class WithAuxiliaryHeads(Wrapper):
    """A network and, in training, auxiliary heads: images (B, H, W, C) to logits (B, num_outputs + num_auxiliary).

    Raises InputError if the network has no linear last layer.
    """

    def __init__(self, network: Network, settings: TrainSettings, num_positions: int) -> None:
        super().__init__(network)
        layer = linear_last_layer(network.backbone, auxiliary_flags(settings)[0])
        self.head = nn.Linear(layer.in_features, num_auxiliary(settings, num_positions))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        features, backbone = self.network.features(images), self.network.backbone
        return torch.cat([backbone.get_classifier()(features), self.head(features)], dim=1)  # type: ignore[operator]


def length_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    pad_class: int,
    label_smoothing: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross-entropy of lengths; logits (B, num_positions + 1), target and weight (B, num_positions)."""
    length = (target != pad_class).sum(dim=1)
    losses = functional.cross_entropy(logits.float(), length, label_smoothing=label_smoothing, reduction="none")
    return (losses if weight is None else losses * weight.mean(dim=1)).mean()


def box_loss(outputs: torch.Tensor, boxes: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the smooth L1 loss of the sides, on the scale of NAME:boxes.

    outputs and boxes (B, 4), NaN: not known; weight (B, num_positions).
    """
    middle, spread = HEADS[0].scale
    aim = (boxes - middle) / spread
    aim = torch.where(aim.isfinite(), aim, outputs.detach().float())
    losses = functional.smooth_l1_loss(outputs.float(), aim, reduction="none").mean(dim=1)
    return (losses if weight is None else losses * weight.mean(dim=1)).mean()


def auxiliary_loss(
    outputs: torch.Tensor,
    target: torch.Tensor,
    boxes: torch.Tensor | None,
    weight: torch.Tensor | None,
    settings: TrainSettings,
    pad_class: int | None,
) -> torch.Tensor:
    """Return the weighted losses of the auxiliary heads, outputs (B, num_auxiliary); the rest as in a Batch."""
    loss = torch.zeros((), device=outputs.device)
    if settings.length_head:
        assert pad_class is not None
        logits = outputs[:, : target.shape[1] + 1]
        loss = loss + settings.length_head * length_loss(logits, target, pad_class, settings.label_smoothing, weight)
    if settings.box_head and boxes is not None:
        loss = loss + settings.box_head * box_loss(outputs[:, -len(SIDES) :], boxes, weight)
    return loss


def check_auxiliary_heads(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError if an auxiliary head's weight is out of range, or does not go with the competition or a flag."""
    for name in FLAGS:
        weight = getattr(config, name)
        check_range(name.replace("_", "-"), weight, 0, 100)
        if not weight:
            continue
        flag = f"--{name.replace('_', '-')} {weight:g}"
        if not competition.is_string or (name == "length_head" and competition.pad_class is None):
            of_lengths = " of different lengths" if name == "length_head" else ""
            raise InputError(f"{flag}: {competition.name}'s answers are not strings{of_lengths}")
        check_apart(flag, config, "freeze_backbone", "layer_decay")
        if name == "box_head":
            check_apart(flag, config, "cache_url")
