"""Saliency: which parts of an image speak for the network's answer, by LayerCAM.

Source: Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, 2021. Unlike Grad-CAM it
is sharp in earlier layers, whose maps still have several cells if images are small: the last one of at least 7 x 7
cells is taken.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from src.competitions.layout import HeadLayout
from src.models.network import Network

MIN_CELLS = 7  # of the shorter side of a map
MAX_MAPS = 40  # tried from the last one back: the last ones of some networks have no gradient
BLUR = 3  # pixels
BATCH_SIZE = 32  # images at a time: their activations are kept

Map = Callable[[torch.Tensor], torch.Tensor | None]


def saliency(
    network: Network,
    images: np.ndarray,
    layout: HeadLayout,
    heads: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> np.ndarray:
    """Return (B, H, W) float32 in 0..1, the largest of each image 1, for images (B, H, W, C) as the cache holds them.

    It explains the network's own answer: of all heads together, or of those numbered in `heads`. An image for which no
    part speaks has zeros. Works for any network whose modules have maps (B, C, h, w), (B, h, w, C) or tokens (B, N, C).
    """
    device = device or next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        parts = [
            _batch(network, torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH_SIZE])).to(device),
                   layout, heads)
            for start in range(0, len(images), BATCH_SIZE)
        ]  # fmt: skip
    finally:
        network.train(was_training)
    return np.concatenate(parts) if parts else np.zeros(images.shape[:3], np.float32)


@torch.enable_grad()
def _batch(network: Network, images: torch.Tensor, layout: HeadLayout, heads: Sequence[int] | None) -> np.ndarray:
    """Return (B, H, W) float32 of one batch."""
    found: list[torch.Tensor] = []
    as_map = _reader(network.backbone, len(images))

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad and as_map(output) is not None:
            found.append(output)

    handles = [module.register_forward_hook(keep) for module in network.backbone.modules()]
    try:
        seen = network.normalise(images).requires_grad_()
        score = evidence(network.backbone(seen), layout, heads).sum()
    finally:
        for handle in handles:
            handle.remove()
    cam = _layer_cam(score, _last_maps(found, as_map), as_map)
    if cam is None:  # no module has a map: the gradient at the image itself, blurred
        slope = torch.autograd.grad(score, seen, allow_unused=True)[0] if score.requires_grad else None
        slope = torch.zeros_like(seen) if slope is None else slope  # parts of the network are without gradients
        cam = avg_pool2d((slope * seen.detach()).abs().sum(dim=1), 2 * BLUR + 1, stride=1, padding=BLUR)
    resized = interpolate(cam[:, None].float(), tuple(images.shape[1:3]), mode="bilinear", align_corners=False)[:, 0]
    most = resized.amax(dim=(1, 2), keepdim=True)
    scaled: np.ndarray = (resized / most.clamp(min=1e-12)).detach().cpu().numpy()
    return scaled.astype(np.float32)


def _layer_cam(score: torch.Tensor, outputs: Sequence[torch.Tensor], as_map: Map) -> torch.Tensor | None:
    """Return (B, h, w): the positive gradients times the values, of the first output where any is positive, or None.

    The last block of a vision transformer has none at its patches: only the class token goes on from there.
    """
    if not outputs:
        return None
    slopes = torch.autograd.grad(score, outputs, retain_graph=True, allow_unused=True)
    for output, slope in zip(outputs, slopes, strict=True):
        shown = None if slope is None else as_map(slope)
        values = as_map(output.detach())
        if shown is None or values is None:
            continue
        cam = (shown.relu() * values).sum(dim=1).relu()
        if cam.any():
            return cam
    return None


def evidence(logits: torch.Tensor, layout: HeadLayout, heads: Sequence[int] | None = None) -> torch.Tensor:
    """Return (B,): how strongly the network answers what it answers, to be differentiated.

    Of a class its logit; of labels and grades the logits of those that it gives, less those that it does not; of a
    number its distance from the mean.
    """
    total = torch.zeros(len(logits), device=logits.device)
    for number, (part, kind) in enumerate(zip(logits.float().split(layout.widths, dim=1), layout.kinds, strict=True)):
        if heads is not None and number not in heads:
            continue
        total = total + (part.amax(dim=1) if kind == "class" else part.abs().sum(dim=1))
    return total


def _reader(backbone: nn.Module, count: int) -> Map:
    """Return the function that makes a map (B, C, h, w) of a module's output, or None if it is not one."""
    tokens = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    prefix, width = getattr(backbone, "num_prefix_tokens", 0), getattr(backbone, "num_features", 0)
    last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    has_maps = not (tokens and hasattr(backbone, "num_prefix_tokens"))  # otherwise (B, heads, N, C) looks like one

    def read(output: torch.Tensor) -> torch.Tensor | None:
        if output.ndim == 4 and len(output) == count and has_maps:
            return output.permute(0, 3, 1, 2) if last else output
        if output.ndim == 3 and tokens and output.shape == (count, prefix + tokens[0] * tokens[1], width):
            return output[:, prefix:].transpose(1, 2).unflatten(2, tuple(tokens))
        return None

    return read


def _last_maps(outputs: Sequence[torch.Tensor], as_map: Map) -> list[torch.Tensor]:
    """Return the outputs whose maps have enough cells, the last first; if none has, those with the most."""
    shapes = [as_map(output) for output in outputs]
    sides = [min(shape.shape[2:]) for shape in shapes if shape is not None]
    least = min(MIN_CELLS, max(sides, default=0))
    fine = [output for output, side in zip(outputs, sides, strict=True) if side >= least]
    return fine[::-1][:MAX_MAPS]
