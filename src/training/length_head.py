"""--length-head: while it is trained, a network also says how long the string is, from the features of all places.

The further head is trained, and resumed, with the network, and is not part of the weights that are kept.
Source: Goodfellow et al., Multi-digit Number Recognition from Street View Imagery, 2014, where the length is an answer.
"""

import torch
from torch import nn
from torch.nn import functional

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import check_apart, check_range
from src.models.contract import linear_last_layer
from src.models.network import Network


class WithLength(nn.Module):
    """A network and, in training, the head of lengths: images (B, H, W, C) to logits (B, num_outputs + num_places + 1).

    In evaluation the logits are the network's own, (B, num_outputs). Raises InputError if it has no linear last layer.
    """

    def __init__(self, network: Network, num_places: int) -> None:
        super().__init__()
        layer = linear_last_layer(network.backbone, "--length-head")
        self.network = network
        self.head = nn.Linear(layer.in_features, num_places + 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights that the backbone exempts, as timm's optimizers ask for them."""
        exempt = getattr(self.network.backbone, "no_weight_decay", set)
        return {f"network.backbone.{name}" for name in exempt()}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            logits: torch.Tensor = self.network(images)
            return logits
        features, backbone = self.network.features(images), self.network.backbone
        return torch.cat([backbone.get_classifier()(features), self.head(features)], dim=1)  # type: ignore[operator]


def length_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    pad_class: int,
    label_smoothing: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross-entropy of lengths; logits (B, num_places + 1), target and weight (B, num_places)."""
    length = (target != pad_class).sum(dim=1)
    losses = functional.cross_entropy(logits.float(), length, label_smoothing=label_smoothing, reduction="none")
    return (losses if weight is None else losses * weight.mean(dim=1)).mean()


def check_length_head(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError if --length-head is out of range, or does not go with the competition or another flag."""
    check_range("length-head", config.length_head, 0, 100)
    if not config.length_head:
        return
    flag = f"--length-head {config.length_head:g}"
    if competition.pad_class is None:
        raise InputError(f"{flag}: {competition.name}'s answers are not strings of different lengths")
    check_apart(flag, config, "freeze_backbone", "layer_decay")
