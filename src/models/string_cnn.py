"""A small network for short strings, trained from scratch on a CPU in minutes: the demo's.

Convolutions read the image column by column; each position of the string then attends to the columns it needs, and one
classifier serves all positions, so that a digit learned at one position is known at the others.

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
    """Images (B, in_chans, H, W), at least 16x16, to logits (B, num_classes): one head per position of the string."""

    def __init__(
        self,
        num_classes: int = 66,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        head_widths: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.head_widths = head_widths or (num_classes,)
        if len(set(self.head_widths)) > 1:
            raise ValueError(
                f"needs heads with the same classes (one string), not {', '.join(map(str, self.head_widths))}"
            )
        self.num_positions = num_positions = len(self.head_widths)
        self.features = nn.Sequential(
            nn.InstanceNorm2d(in_chans),  # the colours of plate and ink carry no information
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
        self.nothing = nn.Parameter(torch.zeros(128, 1))  # the column to attend to after the string's end
        self.attention = nn.Sequential(
            nn.Conv1d(128, 16, 1),
            nn.Flatten(),  # (B, 16 * 24)
            nn.Linear(16 * COLUMNS, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, num_positions * (COLUMNS + 1)),
        )
        self._look_from_left_to_right()
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(128, self.head_widths[0])

    @torch.no_grad()
    def _look_from_left_to_right(self) -> None:
        """Start with each position looking a little further right: from equal ones, attention takes long to diverge."""
        columns, positions = torch.arange(COLUMNS + 0.0), torch.arange(self.num_positions)[:, None]
        centers = COLUMNS * (positions + 0.5) / (0.6 * self.num_positions)
        last = self.attention[-1]
        assert isinstance(last, nn.Linear)
        last.bias.unflatten(0, (self.num_positions, -1))[:, :COLUMNS] = -((columns - centers) ** 2) / (2 * 3.0**2)
        last.weight *= 0.1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        columns = self.columns(self.features(images).flatten(1, 2))  # (B, 128, 24)
        weights = self.attention(columns).unflatten(1, (self.num_positions, -1)).softmax(dim=2)  # (B, 6, 25)
        seen = torch.cat([columns, self.nothing.expand(columns.shape[0], -1, 1)], dim=2)  # (B, 128, 25)
        glimpses = weights @ seen.transpose(1, 2)  # (B, 6, 128)
        return self.head(self.dropout(glimpses)).flatten(1)


@register_model
def string_cnn(pretrained: bool = False, head_widths: tuple[int, ...] | None = None, **kwargs: Any) -> StringCnn:
    """Build the small string network; there are no pretrained weights."""
    return StringCnn(head_widths=head_widths, **own_options(kwargs, "num_classes", "in_chans", "drop_rate"))
