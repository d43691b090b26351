"""Network in Network: convolutions followed by 1x1 convolutions, and global average pooling instead of a linear layer.

Source: Lin et al., Network In Network, 2013, with the block sizes of the textbook version (Zhang et al., Dive into Deep
Learning, section 8.3): 96, 256, 384 and num_classes channels.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import check_size, norm, own_options


def _block(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, num_points: int, batch_norm: bool
) -> list[nn.Module]:
    """Return a convolution and `num_points` 1x1 convolutions, each followed by batch norm (optional) and ReLU."""
    convs = [nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)]
    convs += [nn.Conv2d(out_channels, out_channels, 1) for _ in range(num_points)]
    return [layer for conv in convs for layer in (conv, norm(out_channels, batch_norm), nn.ReLU(inplace=True))]


class Nin(nn.Module):
    """Images (B, in_chans, H, W), at least 67x67, to logits (B, num_classes).

    num_points is the number of 1x1 convolutions per block, 1 or 2. Weights have Xavier initialisation. There is no
    separate head: --weights must have been trained for the same number of classes. Each class's output ends in a ReLU,
    and a class that is zero for every image gets no gradient and never recovers: with positive_start the first
    convolution of the last block has a bias of 1, and its 1x1 convolutions are initialised to the identity.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: tuple[int, int] = (224, 224),
        drop_rate: float = 0.5,
        num_points: int = 2,
        batch_norm: bool = False,
        positive_start: bool = False,
    ) -> None:
        super().__init__()
        check_size("nin", img_size, 67)
        self.net = nn.Sequential(
            *_block(in_chans, 96, 11, 4, 0, num_points, batch_norm),  # (B, 96, 54, 54) for 224x224 images
            nn.MaxPool2d(3, stride=2),  # (B, 96, 26, 26)
            *_block(96, 256, 5, 1, 2, num_points, batch_norm),
            nn.MaxPool2d(3, stride=2),  # (B, 256, 12, 12)
            *_block(256, 384, 3, 1, 1, num_points, batch_norm),
            nn.MaxPool2d(3, stride=2),  # (B, 384, 5, 5)
            nn.Dropout(drop_rate),
            *_block(384, num_classes, 3, 1, 1, num_points, batch_norm),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        convs: list[Any] = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
        if positive_start:
            nn.init.constant_(convs[-1 - num_points].bias, 1.0)
            for conv in convs[-num_points:]:
                nn.init.dirac_(conv.weight)
                nn.init.zeros_(conv.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)


@register_model
def nin(pretrained: bool = False, **kwargs: Any) -> Nin:
    """Build the network; it has no pretrained weights."""
    own = ("num_classes", "in_chans", "img_size", "drop_rate", "num_points", "batch_norm", "positive_start")
    return Nin(**own_options(kwargs, *own))
