"""The two-convolution baseline of the Tianchi street-view course.

Source: Datawhale, "Street-view character recognition" course, task 3 (2020): two stride-2 convolutions, each followed
by pooling, and one linear layer per character.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, own_options


class SvhnCnn(nn.Module):
    """Images (B, in_chans, H, W) to logits (B, num_classes)."""

    def __init__(self, num_classes: int = 66, in_chans: int = 3, img_size: tuple[int, int] = (64, 128)) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 16, 3, stride=2),  # (B, 16, 31, 63) for 64x128 images
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 16, 15, 31)
            nn.Conv2d(16, 32, 3, stride=2),  # (B, 32, 7, 15)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 32, 3, 7)
        )
        check_size("svhn_cnn", img_size, 21)
        with torch.no_grad():
            num_features = self.features(torch.zeros(1, in_chans, *img_size)).numel()
        self.head = nn.Linear(num_features, num_classes)  # six heads of 11 are one layer of 66

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1))


@register_model
def svhn_cnn(pretrained: bool = False, **kwargs: Any) -> SvhnCnn:
    """Build the course's network; it has no pretrained weights."""
    return SvhnCnn(**own_options(kwargs, "num_classes", "in_chans", "img_size"))
