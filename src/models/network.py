"""The network that predicts, normalisation and a backbone, and what may surround it while it is trained."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Normalise(nn.Module):
    """Images (B, H, W, C) of `depth` bits to normalised float32 (B, C, H, W) in channels_last order, on their device.

    C is the length of `mean`: 3, or a competition's bands; or 1 for grey pictures, whose three channels are equal.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, depth: int = 8) -> None:
        super().__init__()
        self.channels, most = len(mean), 2**depth - 1
        # Rows are seen as W * 3 flat values: broadcasting over a last axis of 3 is several times slower on a CPU.
        self.register_buffer("shift", torch.tensor(mean).repeat(width) * most, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(std).repeat(width) * most), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images[..., : self.channels]
        flat = images.flatten(2).float()  # (B, H, W * C)
        width = flat.shape[2]  # narrower at first with --progressive-resize, wider in a view of a larger size
        shift, scale = self.shift, self.scale
        if width > len(shift):
            shift, scale = (values.repeat(-(-width // len(values))) for values in (shift, scale))
        return flat.sub_(shift[:width]).mul_(scale[:width]).view(images.shape).permute(0, 3, 1, 2)


class Network(nn.Module):
    """Normalisation and a backbone: images (B, H, W, C) to logits (B, num_outputs)."""

    def __init__(self, backbone: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.normalise, self.backbone = normalise, backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.backbone(self.normalise(images))
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the input of a timm backbone's last layer: (B, D)."""
        return self.features_of(self.normalise(images))

    def features_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return `features` of normalised images (B, C, H, W)."""
        hidden: Any = self.backbone
        features: torch.Tensor = hidden.forward_head(hidden.forward_features(pixels), pre_logits=True)
        return features


class Wrapper(nn.Module):
    """A network with further layers for its training: gives `outputs` in training, and its logits in evaluation.

    The further layers are trained, and resumed, with the network, and are not part of the weights that are kept.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights that the backbone exempts, as timm's optimizers ask for them."""
        exempt = getattr(self.network.backbone, "no_weight_decay", set)
        return {f"network.backbone.{name}" for name in exempt()}

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the loss is computed from; images (B, H, W, C)."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.outputs(images) if self.training else self.network(images)
        return found
