"""Part of a batch is dropped out and normalised as within the whole batch."""

import copy

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.nn import functional

from src.core.world import World
from src.training.step import train_step
from src.training.whole_batch import WholeBatch, batch_norm_over_ranks
from tests.training.test_step import CPU, LAYOUT, make_batch, make_state, plain_settings, weights

MAPS, VECTORS = (16, 5, 7, 3), (16, 5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Dropout(0.3), VECTORS), (nn.Dropout(0.3), MAPS), (nn.Dropout2d(0.3), MAPS), (DropPath(0.4), MAPS)],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_an_image_keeps_its_mask_whatever_part_of_the_batch_it_is_in(
    layer: nn.Module, shape: tuple[int, ...], channels_last: bool
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if channels_last and len(shape) == 4:
        values = values.to(memory_format=torch.channels_last)
    torch.manual_seed(1)
    whole = layer(values)
    assert (whole == 0).any()
    for rank in range(3):
        rows = torch.from_numpy(World(rank, 3).share_of(16, rank))
        torch.manual_seed(1)
        with WholeBatch(rows, 16, World(), sync_batch_norm=False):
            assert torch.equal(layer(values[rows]), whole[rows])


def test_a_network_in_evaluation_is_left_alone() -> None:
    values = torch.randn(4, 5, 6, 7)
    layers = nn.Sequential(nn.BatchNorm2d(5), nn.Dropout(0.5), DropPath(0.5)).eval()
    with WholeBatch(torch.arange(4), 16, World(), sync_batch_norm=True):
        inside = layers(values)
    assert torch.equal(inside, layers(values))


def test_micro_batches_draw_the_dropout_of_the_whole_batch() -> None:
    settings, batch = plain_settings(seed=1), make_batch(10)
    found = []
    for accumulate in (1, 2, 5):
        state = make_state(dropout=0.5, accumulate=accumulate)
        train_step(state, batch, LAYOUT, 0.1, CPU, settings)
        found.append(weights(state))
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.allclose(found[0], found[2], atol=1e-6)


@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_over_ranks_is_batch_norm(affine: bool) -> None:
    torch.manual_seed(0)
    images = (torch.randn(MAPS) + 3).requires_grad_()
    same = images.detach().clone().requires_grad_()
    layer = nn.BatchNorm2d(5, affine=affine)
    other, upstream = copy.deepcopy(layer), torch.randn(MAPS)
    (layer(images) * upstream).sum().backward()
    ours = batch_norm_over_ranks(
        World(), same, other.running_mean, other.running_var, other.weight, other.bias, other.momentum or 0, other.eps
    )
    (ours * upstream).sum().backward()
    assert images.grad is not None
    assert same.grad is not None
    assert torch.allclose(images.grad, same.grad, atol=1e-6)
    for name, value in layer.named_buffers():
        assert torch.allclose(value.double(), other.get_buffer(name).double() + (name == "num_batches_tracked"))
    if affine:
        assert layer.weight.grad is not None
        assert other.weight.grad is not None
        assert torch.allclose(layer.weight.grad, other.weight.grad, atol=1e-4)


def test_only_a_training_batch_norm_is_synchronised() -> None:
    """Sums over two ranks with the same part are those of one, so the result must be that of this part alone."""

    class Twice(World):
        def sum(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor.mul_(2)

    values, layer = torch.randn(MAPS), nn.BatchNorm2d(5)
    alone = functional.batch_norm(values, None, None, layer.weight, layer.bias, True)
    with WholeBatch(torch.arange(16), 32, Twice(0, 2), sync_batch_norm=True):
        assert torch.allclose(layer(values), alone, atol=1e-4)
    count = 2 * values.numel() / 5
    expected = values.var((0, 2, 3), correction=0) * count / (count - 1)
    assert layer.running_var is not None
    assert torch.allclose(layer.running_var, 0.9 + 0.1 * expected, atol=1e-4)


def test_compiled_micro_batches_draw_different_masks() -> None:
    """With --compile nothing is intercepted, so one seed for each micro-batch would repeat its mask."""
    state, masks = make_state(dropout=0.5, accumulate=2), []
    dropout = next(module for module in state.network.modules() if isinstance(module, nn.Dropout))
    dropout.register_forward_pre_hook(lambda module, given: torch.ones_like(given[0]))
    dropout.register_forward_hook(lambda module, given, out: masks.append(out == 0))
    train_step(state, make_batch(10), LAYOUT, 0.1, CPU, plain_settings(compile=True))
    assert len(masks) == 2
    assert masks[0].any()
    assert not torch.equal(masks[0], masks[1])
