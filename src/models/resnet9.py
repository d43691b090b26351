"""The ResNet-9 of CIFAR-10 speed records: 6.6 million parameters.

Source: Page, How to Train Your ResNet, 2018 (DAWNBench): 94% in 24 epochs, 79 s on a V100. Convolutions of 64 to 512
channels, two residual blocks, global max pooling, and logits scaled by 1/8.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, own_options


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions with a skip connection: (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.convs(images)


class ResNet9(nn.Module):
    """Images (B, in_chans, H, W), at least 8x8, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: tuple[int, int] = (32, 32),
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_size("resnet9", img_size, 8)
        self.features = nn.Sequential(
            _conv(in_chans, 64),  # (B, 64, 32, 32)
            _conv(64, 128),
            nn.MaxPool2d(2),  # (B, 128, 16, 16)
            Residual(128),
            _conv(128, 256),
            nn.MaxPool2d(2),  # (B, 256, 8, 8)
            _conv(256, 512),
            nn.MaxPool2d(2),  # (B, 512, 4, 4)
            Residual(512),
        )
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(512, num_classes, bias=False)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)  # (B, 512, 4, 4)

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = self.dropout(features.amax(dim=(2, 3))) / 8  # (B, 512); scales the logits, which are linear in it
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


@register_model
def resnet9(pretrained: bool = False, **kwargs: Any) -> ResNet9:
    """Build the network; it has no pretrained weights."""
    return ResNet9(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate"))
