"""A small network for short strings, trained from scratch on a CPU in minutes: the demo's.

Three residual-free stages of two 3x3 convolutions halve the picture; the map is then pooled to two rows and twelve
columns, so that the last layer still knows where along the string a feature was.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import own_options

WIDTHS = (24, 48, 96)
GRID = (2, 12)  # rows and columns that the last layer sees


def _block(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class StringCnn(nn.Module):
    """Images (B, in_chans, H, W), at least 16x16, to logits (B, num_classes)."""

    def __init__(self, num_classes: int = 66, in_chans: int = 3, drop_rate: float = 0.0) -> None:
        super().__init__()
        layers, channels = [], in_chans
        for width in WIDTHS:
            layers += [*_block(channels, width), *_block(width, width), nn.MaxPool2d(2)]  # each halves H and W
            channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(GRID))  # (B, 96, 2, 12)
        self.dropout = nn.Dropout(drop_rate)
        self.neck = nn.Sequential(nn.Linear(channels * GRID[0] * GRID[1], 256), nn.ReLU(inplace=True))
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.dropout(self.features(images).flatten(1))  # (B, 2304)
        return self.head(self.dropout(self.neck(features)))


@register_model
def string_cnn(pretrained: bool = False, **kwargs: Any) -> StringCnn:
    """Build the small string network; there are no pretrained weights."""
    return StringCnn(**own_options(kwargs, "num_classes", "in_chans", "drop_rate"))
