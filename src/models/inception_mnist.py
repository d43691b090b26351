"""The MNIST Inception net of a PyTorch course: conv 10, Inception (88), conv 20, Inception (88), linear 1408 to 10.

Source: Szegedy et al., Going Deeper with Convolutions, 2014, at the size used in the course "PyTorch Deep Learning
Practice" (Liu, 2020, lecture 11).
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, own_options


class Inception(nn.Module):
    """(B, in, H, W) to (B, 88, H, W); branches: pooled 1x1 (24), 1x1 (16), 5x5 (24), two 3x3 (24)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(in_channels, 24, 1))
        self.point = nn.Conv2d(in_channels, 16, 1)
        self.five = nn.Sequential(nn.Conv2d(in_channels, 16, 1), nn.Conv2d(16, 24, 5, padding=2))
        self.three = nn.Sequential(
            nn.Conv2d(in_channels, 16, 1), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        branches = (self.point, self.five, self.three, self.pooled)
        return torch.cat([branch(images) for branch in branches], dim=1)


class InceptionMnist(nn.Module):
    """Images (B, in_chans, H, W) of `img_size`, at least 16x16, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        img_size: tuple[int, int] = (28, 28),
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = check_size("inception_mnist", img_size, 16)
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 10, 5),  # (B, 10, 24, 24)
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            Inception(10),  # (B, 88, 12, 12)
            nn.Conv2d(88, 20, 5),  # (B, 20, 8, 8)
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            Inception(20),  # (B, 88, 4, 4)
            nn.Flatten(),
            nn.Dropout(drop_rate),
        )
        sides = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        self.head = nn.Linear(88 * sides[0] * sides[1], num_classes)  # 1408 for 28x28

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


@register_model
def inception_mnist(pretrained: bool = False, **kwargs: Any) -> InceptionMnist:
    """Build the network; it has no pretrained weights."""
    return InceptionMnist(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate"))
