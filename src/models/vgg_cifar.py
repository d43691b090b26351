"""A small VGG for CIFAR comparisons: ten 3x3 convolutions of 16 to 64 channels, 206,902 parameters.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks, 2014, scaled down for 32x32 images. The published
comparison gives the number of parameters (207k) but not the layers; these layers are our own, chosen to match it.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options

STAGES = ((16, 16), (32, 32, 32), (64, 64, 64), (64, 64))  # each ends in a 2x2 pool
HIDDEN = 52


class VggCifar(nn.Module):
    """Images (B, in_chans, H, W) of `img_size`, at least 16x16, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: tuple[int, int] = (32, 32),
        drop_rate: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        height, width = check_size("vgg_cifar", img_size, 16)
        layers: list[nn.Module] = []
        for stage in STAGES:  # (B, 16, 16, 16), (B, 32, 8, 8), (B, 64, 4, 4), (B, 64, 2, 2) for 32x32 images
            for channels in stage:
                conv = nn.Conv2d(in_chans, channels, 3, padding=1)
                layers += [conv, norm(channels, batch_norm), nn.ReLU(inplace=True)]
                in_chans = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        num_features = 64 * (height // 16) * (width // 16)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(num_features, HIDDEN), nn.ReLU(), nn.Dropout(drop_rate))
        self.head = nn.Linear(HIDDEN, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.features(images)))


@register_model
def vgg_cifar(pretrained: bool = False, **kwargs: Any) -> VggCifar:
    """Build the network; it has no pretrained weights."""
    return VggCifar(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate", "batch_norm"))
