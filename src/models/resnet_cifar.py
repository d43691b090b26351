"""A small ResNet for CIFAR comparisons: 16-32-64 channels, two blocks each, 195,738 parameters.

Source: He et al., Deep Residual Learning for Image Recognition, 2015, section 4.2, at the size used in PyTorch
tutorials (three stages of two blocks, a 3x3 convolution with batch norm on the shortcut where the size changes).
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import norm, own_options


def _conv(in_channels: int, out_channels: int, stride: int, batch_norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=not batch_norm)
    return nn.Sequential(conv, norm(out_channels, batch_norm))


class Block(nn.Module):
    """Two convolutions and a shortcut: (B, in, H, W) to (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.first = _conv(in_channels, out_channels, stride, batch_norm)
        self.second = _conv(out_channels, out_channels, 1, batch_norm)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = _conv(in_channels, out_channels, stride, batch_norm) if changes else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.second(self.first(images).relu_()) + self.shortcut(images)).relu_()


class ResNetCifar(nn.Module):
    """Images (B, in_chans, H, W), at least 4x4, to logits (B, num_classes)."""

    def __init__(
        self, num_classes: int = 10, in_chans: int = 3, drop_rate: float = 0.0, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(in_chans, 16, 1, batch_norm), nn.ReLU(inplace=True))  # (B, 16, 32, 32)
        self.blocks = nn.Sequential(
            Block(16, 16, 1, batch_norm),
            Block(16, 16, 1, batch_norm),
            Block(16, 32, 2, batch_norm),  # (B, 32, 16, 16)
            Block(32, 32, 1, batch_norm),
            Block(32, 64, 2, batch_norm),  # (B, 64, 8, 8)
            Block(64, 64, 1, batch_norm),
        )
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(64, num_classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(images))  # (B, 64, 8, 8)

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = self.dropout(features.mean(dim=(2, 3)))  # (B, 64)
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


@register_model
def resnet_cifar(pretrained: bool = False, **kwargs: Any) -> ResNetCifar:
    """Build the network; it has no pretrained weights."""
    return ResNetCifar(**own_options(kwargs, "num_classes", "in_chans", "drop_rate", "batch_norm"))
