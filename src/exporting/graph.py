"""One module from images to predictions: views, normalisation, every fold's network and their mean.

Views are made by the same arithmetic as opencv's on a CPU (data/tta.py), in operations that ONNX has.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.data.tta import View
from src.models.heads import probabilities_of


def _border(positions: np.ndarray, count: int, reflect: bool) -> np.ndarray:
    """Return positions outside of 0 ... count - 1 as opencv's border does: reflected about the edge, or on it."""
    if not reflect:
        return positions.clip(0, count - 1)
    positions = np.abs(positions) % (2 * (count - 1))
    return np.where(positions > count - 1, 2 * (count - 1) - positions, positions)


class Taps(nn.Module):
    """Linear interpolation along one axis of (B, H, W, C): between which two positions, and the second one's share."""

    first: torch.Tensor
    second: torch.Tensor
    share: torch.Tensor

    def __init__(self, at: np.ndarray, count: int, reflect: bool, axis: int) -> None:
        """Interpolate at these float32 positions."""
        super().__init__()
        low = np.floor(at)
        self.axis, self.is_whole = axis, bool((at == low).all())
        positions = [_border(one.astype(np.int64), count, reflect) for one in (low, low + 1)]
        share = (at - low).reshape((-1,) + (1,) * (3 - axis))
        for name, value in (("first", positions[0]), ("second", positions[1]), ("share", share)):
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = images.index_select(self.axis, self.first)
        if self.is_whole:
            return first
        return first + (images.index_select(self.axis, self.second) - first) * self.share


class Warp(nn.Module):
    """A view that shifts, zooms or flips: (B, H, W, C) float32, whole numbers, to the same."""

    def __init__(self, matrix: np.ndarray, size: tuple[int, int], reflect: bool) -> None:
        super().__init__()
        assert matrix[0, 1] == matrix[1, 0] == 0, "no view turns or shears"
        height, width = size
        scale, shift = matrix[[0, 1], [0, 1]].astype(np.float32), matrix[:, 2].astype(np.float32)
        # opencv adds the shift to a column's place in one rounding, and to a row's in two
        columns = (np.float64(scale[0]) * np.arange(width) + np.float64(shift[0])).astype(np.float32)
        rows = scale[1] * np.arange(height, dtype=np.float32) + shift[1]
        self.across, self.down = Taps(columns, width, reflect, 2), Taps(rows, height, reflect, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.round(self.down(self.across(images)))


class Resize(nn.Module):
    """A view of another size, (B, H, W, C) to (B, *size, C) float32: as `images.resize` stretches to it."""

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, size: tuple[int, int], old: tuple[int, int]) -> None:
        super().__init__()
        grows = size[0] > old[0] or size[1] > old[1]
        for name, new, count in (("rows", size[0], old[0]), ("columns", size[1], old[1])):
            how = cv2.INTER_AREA if count > (2 * new if grows else new) else cv2.INTER_LINEAR
            shares = cv2.resize(np.eye(count, dtype=np.float32), (count, new), interpolation=how)  # (new, count)
            self.register_buffer(name, torch.from_numpy(shares), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2)
        return torch.round(self.rows @ planes @ self.columns.T).permute(0, 2, 3, 1)


class AnsweringGraph(nn.Module):
    """Images (B, H, W, C), as prepare makes them, to a tuple of each head's predictions, (B, width of the head).

    The mean over networks and views, as the Predictor and the ensemble make it.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        layout: HeadLayout,
        size: tuple[int, int],
        views: Sequence[View] = (),
        hflip_ok: bool = False,
    ) -> None:
        """Average over these views besides the original."""
        super().__init__()
        self.networks, self.layout = nn.ModuleList(networks), layout
        self.warps = nn.ModuleList(Warp(view, size, hflip_ok) for view in views if not isinstance(view, tuple))
        self.resizes = nn.ModuleList(Resize(view, size) for view in views if isinstance(view, tuple))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        exact, kind = images.float(), images.dtype
        batches = [(images, 1)]
        if self.warps:  # all views of a size in one batch
            views = [images, *(warp(exact).to(kind) for warp in self.warps)]
            batches = [(torch.cat(views), len(views))]
        batches += [(resize(exact).to(kind), 1) for resize in self.resizes]
        found = [
            probabilities_of(network(batch), self.layout).unflatten(0, (number, -1)).sum(dim=0)
            for network in self.networks
            for batch, number in batches
        ]
        mean = torch.stack(found).sum(dim=0) / (len(self.networks) * sum(number for _, number in batches))
        return mean.split(self.layout.widths, dim=1)
