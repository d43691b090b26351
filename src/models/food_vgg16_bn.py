"""VGG-16 with batch norm and a head for 128x128 photos (512*4*4 features), as used by students for NTU's homework 3.

timm's own vgg16_bn would stretch the 4x4 features to the 7x7 that its first linear layer expects.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks, 2014, configuration D.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # each ends in a 2x2 pool


class FoodVgg16(nn.Module):
    """Images (B, in_chans, H, W) of `img_size`, at least 32x32, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 11,
        in_chans: int = 3,
        img_size: tuple[int, int] = (128, 128),
        drop_rate: float = 0.5,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        height, width = check_size("food_vgg16_bn", img_size, 32)
        layers: list[nn.Module] = []
        for stage in STAGES:  # (B, 64, 64, 64) ... (B, 512, 4, 4) for 128x128 images
            for channels in stage:
                conv = nn.Conv2d(in_chans, channels, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                layers += [conv, norm(channels, batch_norm), nn.ReLU(inplace=True)]
                in_chans = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Sequential(
            nn.Linear(512 * (height // 32) * (width // 32), 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
        )
        self.head = nn.Linear(4096, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.features(images)))


@register_model
def food_vgg16_bn(pretrained: bool = False, **kwargs: Any) -> FoodVgg16:
    """Build the network; it has no pretrained weights."""
    return FoodVgg16(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate", "batch_norm"))
