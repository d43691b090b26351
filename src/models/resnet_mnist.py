"""The MNIST ResNet of a PyTorch course: two residual blocks with a convolution on the shortcut, each max-pooled, then
linear 20*7*7 to 10.

Source: He et al., Deep Residual Learning for Image Recognition, 2015, at the size used in the course.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options


class Block(nn.Module):
    """(B, in, H, W) to (B, out, H, W): two 3x3 convolutions, and a 1x1 convolution on the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            norm(out_channels, batch_norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            norm(out_channels, batch_norm),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.path(images) + self.shortcut(images)).relu_()


class ResNetMnist(nn.Module):
    """Images (B, in_chans, H, W) of `img_size`, at least 4x4, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        img_size: tuple[int, int] = (28, 28),
        drop_rate: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        height, width = check_size("resnet_mnist", img_size, 4)
        self.features = nn.Sequential(
            Block(in_chans, 10, batch_norm),  # (B, 10, 28, 28)
            nn.MaxPool2d(2),
            Block(10, 20, batch_norm),  # (B, 20, 14, 14)
            nn.MaxPool2d(2),
            nn.Flatten(),  # (B, 20 * 7 * 7)
            nn.Dropout(drop_rate),
        )
        self.head = nn.Linear(20 * (height // 4) * (width // 4), num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


@register_model
def resnet_mnist(pretrained: bool = False, **kwargs: Any) -> ResNetMnist:
    """Build the network; it has no pretrained weights."""
    return ResNetMnist(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate", "batch_norm"))
