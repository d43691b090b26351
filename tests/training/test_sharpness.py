"""--sam: the gradient of a step is that of the weights moved uphill, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.training.losses import loss_of
from src.training.sharpness import sharpest_nearby
from src.training.step import TrainState, train_step
from tests.training.test_step import CPU, LAYOUT, make_batch, make_state, plain_settings, weights

RHO = 0.1


def stepped(accumulate: int = 1, **settings: float) -> TrainState:
    state = make_state(accumulate=accumulate)
    train_step(state, make_batch(), LAYOUT, 0.5, CPU, plain_settings(**settings))
    return state


def by_hand() -> torch.Tensor:
    """Return the weights after one such step, computed without our code but for the loss."""
    state, batch = make_state(), make_batch()
    network, images = copy.deepcopy(state.network), batch["image"]

    def gradient() -> list[torch.Tensor]:
        return list(
            torch.autograd.grad(
                loss_of(network(images), batch["target"], LAYOUT, "cross_entropy"), list(network.parameters())
            )
        )

    first = gradient()
    norm = torch.sqrt(sum((one**2).sum() for one in first))  # type: ignore[arg-type]
    before = [one.detach().clone() for one in network.parameters()]
    with torch.no_grad():
        for one, slope in zip(network.parameters(), first, strict=True):
            one.add_(RHO * slope / norm)
    second = gradient()
    return torch.cat([(one - 0.5 * slope).flatten() for one, slope in zip(before, second, strict=True)])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_takes_the_gradient_uphill(accumulate: int) -> None:
    torch.testing.assert_close(weights(stepped(accumulate, sam=RHO)), by_hand(), atol=1e-6, rtol=0)
    assert (weights(stepped()) - by_hand()).abs().max() > 1e-4


def test_without_it_the_bits_are_those_of_a_plain_step() -> None:
    assert torch.equal(weights(stepped(sam=0.0)), weights(stepped()))


def test_batch_norms_averages_are_those_of_the_weights_themselves() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    images = torch.randn(6, 3, 5, 5)
    network(images).square().mean().backward()
    kept, before = copy.deepcopy(dict(network.named_buffers())), copy.deepcopy(dict(network.named_parameters()))
    with sharpest_nearby(network, RHO):
        moved = torch.cat([(one - before[name]).flatten() for name, one in network.named_parameters()])
        assert moved.norm().item() == pytest.approx(RHO, rel=1e-4)
        network(images).square().mean().backward()
    for name in ("1.running_mean", "1.running_var"):
        assert torch.equal(dict(network.named_buffers())[name], kept[name])
    for name, one in network.named_parameters():
        assert torch.equal(one, before[name])
    assert network[1].momentum == pytest.approx(0.1)


def test_a_step_that_is_not_finite_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    state, before = make_state(), weights(make_state())
    monkeypatch.setattr("src.training.step.loss_of", lambda logits, *rest: logits.sum() * float("nan"))
    train_step(state, make_batch(), HeadLayout((5,)), 0.5, CPU, plain_settings(sam=RHO))
    assert torch.equal(weights(state), before)
