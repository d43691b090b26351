"""A small Inception net for CIFAR comparisons: four modules, 107,010 parameters.

Source: Szegedy et al., Going Deeper with Convolutions, 2014; batch norm and two 3x3 convolutions instead of a 5x5 as
in Szegedy et al., Rethinking the Inception Architecture, 2015. The published comparison gives the number of parameters
(107k) but not the layers; these layers are our own, chosen to match it.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options


def _conv(in_channels: int, out_channels: int, kernel_size: int, batch_norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
    return nn.Sequential(conv, norm(out_channels, batch_norm), nn.ReLU(inplace=True))


class Inception(nn.Module):
    """(B, in, H, W) to (B, 3 * width, H, W): 1x1 (width / 2), 3x3 (width), two 3x3 (width), pooled 1x1 (width / 2)."""

    def __init__(self, in_channels: int, width: int, batch_norm: bool) -> None:
        super().__init__()
        half = width // 2
        self.point = _conv(in_channels, half, 1, batch_norm)
        self.three = nn.Sequential(_conv(in_channels, half, 1, batch_norm), _conv(half, width, 3, batch_norm))
        self.five = nn.Sequential(
            _conv(in_channels, half, 1, batch_norm),
            _conv(half, width, 3, batch_norm),
            _conv(width, width, 3, batch_norm),
        )
        self.pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), _conv(in_channels, half, 1, batch_norm))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        branches = (self.point, self.three, self.five, self.pooled)
        return torch.cat([branch(images) for branch in branches], dim=1)


class InceptionCifar(nn.Module):
    """Images (B, in_chans, H, W), at least 8x8, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: tuple[int, int] = (32, 32),
        drop_rate: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_size("inception_cifar", img_size, 8)
        self.features = nn.Sequential(
            _conv(in_chans, 16, 3, batch_norm),  # (B, 16, 32, 32)
            nn.MaxPool2d(2),
            Inception(16, 24, batch_norm),  # (B, 72, 16, 16)
            Inception(72, 28, batch_norm),  # (B, 84, 16, 16)
            nn.MaxPool2d(2),
            Inception(84, 32, batch_norm),  # (B, 96, 8, 8)
            Inception(96, 48, batch_norm),  # (B, 144, 8, 8)
        )
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(144, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images).mean(dim=(2, 3))  # (B, 144)
        return self.head(self.dropout(features))


@register_model
def inception_cifar(pretrained: bool = False, **kwargs: Any) -> InceptionCifar:
    """Build the network; it has no pretrained weights."""
    return InceptionCifar(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate", "batch_norm"))
