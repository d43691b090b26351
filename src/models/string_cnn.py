"""A small network for short strings, trained from scratch on a CPU in minutes: the demo's.

Convolutions read the image column by column; each place of the string then looks at the columns that it needs, by
attention, and one classifier serves all places, so that a digit learnt at one place is known at the others.

Source of the idea: Wojna et al., Attention-based Extraction of Structured Information from Street View Imagery, 2017.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.models.options import own_options

COLUMNS = 24  # that the attention chooses from


def _block(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class StringCnn(nn.Module):
    """Images (B, in_chans, H, W), at least 16x16, to logits (B, num_classes): num_places heads of equal width."""

    def __init__(self, num_classes: int = 66, in_chans: int = 3, drop_rate: float = 0.0, num_places: int = 6) -> None:
        super().__init__()
        if num_classes % num_places:
            raise ValueError(
                f"string_cnn gives {num_places} equal heads, {num_classes} outputs are no multiple of that"
            )
        self.num_places = num_places
        self.features = nn.Sequential(
            nn.InstanceNorm2d(in_chans),  # the colours of plate and ink say nothing
            *_block(in_chans, 24, kernel_size=5, stride=2),  # (B, 24, 16, 48) for 32x96 images
            *_block(24, 48),
            nn.MaxPool2d(2),  # (B, 48, 8, 24)
            *_block(48, 64),
            *_block(64, 64),
            nn.MaxPool2d((2, 1)),  # (B, 64, 4, 24)
            *_block(64, 96),
            nn.AdaptiveMaxPool2d((2, COLUMNS)),  # (B, 96, 2, 24)
        )
        self.columns = nn.Sequential(nn.Conv1d(192, 128, 1), nn.ReLU(inplace=True))
        self.nothing = nn.Parameter(torch.zeros(128, 1))  # a column to look at where the string has ended
        self.attention = nn.Sequential(
            nn.Conv1d(128, 16, 1),
            nn.Flatten(),  # (B, 16 * 24)
            nn.Linear(16 * COLUMNS, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, num_places * (COLUMNS + 1)),
        )
        self._look_from_left_to_right()
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(128, num_classes // num_places)

    @torch.no_grad()
    def _look_from_left_to_right(self) -> None:
        """Begin with each place looking a little further right: from all alike, attention takes long to part."""
        columns, places = torch.arange(COLUMNS + 0.0), torch.arange(self.num_places)[:, None]
        centers = COLUMNS * (places + 0.5) / (0.6 * self.num_places)
        last = self.attention[-1]
        assert isinstance(last, nn.Linear)
        last.bias.unflatten(0, (self.num_places, -1))[:, :COLUMNS] = -((columns - centers) ** 2) / (2 * 3.0**2)
        last.weight *= 0.1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        columns = self.columns(self.features(images).flatten(1, 2))  # (B, 128, 24)
        weights = self.attention(columns).unflatten(1, (self.num_places, -1)).softmax(dim=2)  # (B, 6, 25)
        seen = torch.cat([columns, self.nothing.expand(len(columns), -1, 1)], dim=2)  # (B, 128, 25)
        glimpses = weights @ seen.transpose(1, 2)  # (B, 6, 128)
        return self.head(self.dropout(glimpses)).flatten(1)


@register_model
def string_cnn(pretrained: bool = False, **kwargs: Any) -> StringCnn:
    """Build the small string network; there are no pretrained weights."""
    return StringCnn(**own_options(kwargs, "num_classes", "in_chans", "drop_rate", "num_places"))
