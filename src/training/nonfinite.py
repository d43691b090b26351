"""Skip and count steps with a non-finite loss or gradient, and undo their batch-norm update."""

import torch
from torch import nn

MAX_IN_A_ROW = 20  # steps; fp16's loss scaler may need some to find its scale


class NonFiniteSteps:
    """Counts skipped steps, on the device, and keeps batch norm's running statistics from before the current step.

    A forward pass updates these statistics before its loss is known, and a NaN in a running average stays forever.
    """

    def __init__(self, network: nn.Module) -> None:
        names = ("running_mean", "running_var")
        self.averages = [buffer for name, buffer in network.named_buffers() if name.endswith(names)]
        device = next(network.parameters()).device
        self.kept = torch.cat([buffer.flatten() for buffer in self.averages] or [torch.empty(0, device=device)])
        parts = self.kept.split([buffer.numel() for buffer in self.averages])
        self.parts = [part.view_as(buffer) for part, buffer in zip(parts, self.averages, strict=True)]
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)

    def begin(self, skipped: int, in_a_row: int) -> None:
        """Continue counting from these numbers, with the network in its current state."""
        self.counts = torch.tensor([skipped, in_a_row], device=self.counts.device)
        if self.averages:
            torch._foreach_copy_(self.parts, self.averages)

    def note(self, applied: torch.Tensor) -> None:
        """Count a step, and restore the statistics if it was skipped; `applied` is a bool tensor on the device."""
        skipped = (~applied).to(torch.int64)
        self.counts = torch.stack([self.counts[0] + skipped, (self.counts[1] + 1) * skipped])
        if self.averages:  # a few kernels for all layers together
            updated = torch.cat([buffer.flatten() for buffer in self.averages])
            self.kept.copy_(torch.where(applied, updated, self.kept))
            torch._foreach_copy_(self.averages, self.parts)

    def read(self) -> tuple[int, int]:
        """Return how many steps were skipped in total and how many in a row until now; synchronises with the device."""
        skipped, in_a_row = self.counts.tolist()
        return skipped, in_a_row
