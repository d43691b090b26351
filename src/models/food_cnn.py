"""The five-block network from the sample code of NTU's machine learning course, homework 3 (food-11).

Source: H.-Y. Lee's machine learning course, National Taiwan University, 2020. Designed for 128x128 photos.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options

CHANNELS = (64, 128, 256, 512, 512)


class FoodCnn(nn.Module):
    """Images (B, in_chans, H, W) of `img_size`, at least 32x32, to logits (B, num_classes)."""

    def __init__(
        self,
        num_classes: int = 11,
        in_chans: int = 3,
        img_size: tuple[int, int] = (128, 128),
        drop_rate: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        height, width = check_size("food_cnn", img_size, 32)
        layers: list[nn.Module] = []
        for channels in CHANNELS:  # (B, 64, 64, 64) ... (B, 512, 4, 4) for 128x128 images
            conv = nn.Conv2d(in_chans, channels, 3, padding=1)
            layers += [conv, norm(channels, batch_norm), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            in_chans = channels
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Sequential(
            nn.Linear(512 * (height // 32) * (width // 32), 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
        )
        self.head = nn.Linear(512, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.features(images)))


@register_model
def food_cnn(pretrained: bool = False, **kwargs: Any) -> FoodCnn:
    """Build the course's network; it has no pretrained weights."""
    return FoodCnn(**own_options(kwargs, "num_classes", "in_chans", "img_size", "drop_rate", "batch_norm"))
