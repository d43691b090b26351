"""The one way from images to probabilities: validation, test and test-time augmentation all come here."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn

from src.competitions.spec import Head
from src.core.runtime import Compute, is_out_of_memory
from src.data.loader import Loader
from src.data.tta import warped
from src.models.heads import probabilities_of

Forward = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def predict_probabilities(
    network: nn.Module,
    loader: Loader,
    heads: Sequence[Head],
    compute: Compute,
    views: Sequence[np.ndarray] = (),
    forward: Forward | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N, sum of num_classes) float32 arrays: of the plain images, and the mean over them and all views.

    Each image is gathered once for all views. `views` are affine matrices from `augment.tta_views`, without the
    original. `forward` stands for the network where it is compiled.
    """
    network.eval()
    forward = forward or network
    plain, mean = [], []
    for batch in loader.epoch(0):
        images = batch["image"].to(compute.device, non_blocking=True)
        total = first = _forward(forward, images, heads, compute)
        for matrix in views:
            total = total + _forward(forward, images, heads, compute, matrix, loader.hflip_ok)
        plain.append(first.cpu().numpy())
        mean.append((total / (1 + len(views))).cpu().numpy())
    return _joined(plain), _joined(mean)


def _forward(
    network: Forward,
    images: torch.Tensor,
    heads: Sequence[Head],
    compute: Compute,
    matrix: np.ndarray | None = None,
    hflip_ok: bool = False,
) -> torch.Tensor:
    """Return the probabilities of images, or of one view of them; in halves where the memory does not suffice."""
    try:
        seen = images if matrix is None else warped(images, matrix, hflip_ok)
        with compute.autocast():
            logits = network(seen)
        return probabilities_of(logits, heads)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(images) < 2:
            raise
    halves = images.tensor_split(2)
    return torch.cat([_forward(network, half, heads, compute, matrix, hflip_ok) for half in halves])


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts)).astype(np.float32)
