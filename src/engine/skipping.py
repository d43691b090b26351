"""Steps whose loss or gradients are no finite numbers: left out, counted, and nothing of them stays."""

from collections.abc import Sequence

import torch
from torch import nn

MAX_IN_A_ROW = 20  # steps; fp16's scaler may need some to find its scale


class Skipping:
    """Counts steps left out, on the device, and keeps batch norm's averages as they were when last read.

    A forward pass writes into these averages before its loss can be looked at, and a NaN never leaves an average.
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        self.averages = [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]
        self.kept = [buffer.clone() for buffer in self.averages]
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)

    def begin(self, skipped: int, in_a_row: int) -> None:
        """Count on from here, with the networks as they are."""
        self.counts = torch.tensor([skipped, in_a_row], device=self.counts.device)
        self._keep()

    def note(self, made: torch.Tensor) -> None:
        """Count a step; `made` is a bool on the device."""
        left_out = (~made).to(torch.int64)
        self.counts = torch.stack([self.counts[0] + left_out, (self.counts[1] + 1) * left_out])

    def read(self) -> tuple[int, int]:
        """Return how many steps were left out, and how many in a row up to now; waits for the device.

        Averages that have become infinite or NaN are put back to what they were at the last call.
        """
        skipped, in_a_row = self.counts.tolist()
        if skipped:
            for average, kept in zip(self.averages, self.kept, strict=True):
                if not average.isfinite().all():
                    average.copy_(kept)
        self._keep()
        return skipped, in_a_row

    def _keep(self) -> None:
        if self.kept:
            torch._foreach_copy_(self.kept, self.averages)
