"""The cost of a network: parameters, multiply-adds and activation memory, per layer and in total."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Per image: multiply-adds of all convolutions and matrix products, and bytes kept for backward in fp32."""

    parameters: int
    multiply_adds: int
    activation_bytes: int
    layers: pd.DataFrame  # layer, kind, output, parameters, multiply_adds; one row per call of a leaf module


@contextmanager
def _recorded(model: nn.Module, rows: list[dict[str, Any]], counter: FlopCounterMode) -> Iterator[None]:
    """Append a row to `rows` for each call of a leaf module."""
    names = {
        module: name
        for name, module in model.named_modules()
        if not list(module.children()) and not isinstance(module, nn.Identity)
    }
    seen = {"flops": 0}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        flops = counter.get_total_flops()
        shape = "x".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else ""
        rows.append(
            {
                "layer": names[module],
                "kind": type(module).__name__,
                "output": shape,
                "parameters": sum(value.numel() for value in module.parameters()),
                "multiply_adds": (flops - seen["flops"]) // 2,
            }
        )
        seen["flops"] = flops

    handles = [module.register_forward_hook(note) for module in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kept_for_backward(model: nn.Module, images: torch.Tensor) -> int:
    """Return the bytes, without parameters, that one forward pass in train mode keeps for the backward pass."""
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = model.training
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()(images)
    model.train(was_training)
    return sum(kept.values())


def summarise(model: nn.Module, image_size: tuple[int, int], in_chans: int = 3) -> Summary:
    """Count the cost of `model` for images (in_chans, H, W).

    A multiply-add is one multiplication and one addition (half of torch's flop count); batch norm, activations and
    pooling are not counted, as is usual. Products outside layers (attention) are listed with the next layer; those
    after the last layer are in the total only.
    """
    rows: list[dict[str, Any]] = []
    was_training = model.training
    counter = FlopCounterMode(display=False)
    # Attention as plain matrix products: the counter does not see inside fused kernels.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, _recorded(model, rows, counter):
        model.eval()(torch.zeros(1, in_chans, *image_size))
    model.train(was_training)
    pair = torch.zeros(2, in_chans, *image_size)  # batch norm in train mode needs two images
    return Summary(
        parameters=sum(value.numel() for value in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        activation_bytes=_kept_for_backward(model, pair) // 2,
        layers=pd.DataFrame(rows),
    )
