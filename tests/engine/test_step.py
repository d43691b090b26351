"""The training step: accumulation, mixing, clipping, and randomness keyed on (seed, step)."""

import copy

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from src.competitions.spec import Head
from src.data.loader import Batch
from src.engine.inference import Network, Normalise, choose_compute
from src.engine.step import StepOptions, TrainState, train_step

HEADS = (Head(name="a", classes=("x", "y", "z")), Head(name="b", classes=("x", "y")))
ONE_HEAD = (Head(name="a", classes=("x", "y")),)
CPU = choose_compute("cpu", "fp32")


def make_state(num_outputs: int = 5, dropout: float = 0.0, ema: float = 0.0) -> TrainState:
    torch.manual_seed(3)
    layers = (nn.Flatten(), nn.Linear(3 * 6 * 8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, num_outputs))
    network = Network(nn.Sequential(*layers), Normalise((0.5,) * 3, (0.25,) * 3, 8)).train()
    return TrainState(
        network=network,
        forward=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ema=ModelEmaV3(network, decay=ema) if ema else None,
    )


def make_batch(count: int = 10, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8))
    target = torch.from_numpy(np.stack([rng.integers(0, 3, count), rng.integers(0, 2, count)], axis=1))
    return {"index": torch.arange(count), "image": image, "target": target}


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in state.network.parameters()]).clone()


def steps(options: StepOptions, count: int = 3, dropout: float = 0.0) -> torch.Tensor:
    state = make_state(dropout=dropout)
    for number in range(count):
        train_step(state, make_batch(seed=number), HEADS, 0.05, CPU, options)
    return weights(state)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
@pytest.mark.parametrize("clip_grad", [None, 0.5])
def test_accumulating_over_uneven_parts_changes_nothing(mixup: float, clip_grad: float | None) -> None:
    whole, parts = (
        steps(StepOptions(accumulate=accumulate, mixup=mixup, clip_grad=clip_grad, label_smoothing=0.1))
        for accumulate in (1, 4)
    )
    assert torch.allclose(whole, parts, atol=1e-6)
    assert not torch.allclose(whole, weights(make_state()), atol=1e-3)


def test_the_loss_is_the_same_for_any_accumulation() -> None:
    losses = [
        train_step(make_state(), make_batch(), HEADS, 0.0, CPU, StepOptions(accumulate=accumulate)).item()
        for accumulate in (1, 3, 10)
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_gradients_longer_than_the_limit_are_cut_to_it() -> None:
    moved = {}
    for limit in (None, 0.01):
        state = make_state()
        before = weights(state)
        train_step(state, make_batch(), HEADS, 1.0, CPU, StepOptions(clip_grad=limit))
        moved[limit] = (weights(state) - before).norm().item()
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)
    assert moved[None] > 0.1


def test_each_group_has_its_share_of_the_lr() -> None:
    state = make_state()
    first, second = state.network.backbone[1].parameters(), state.network.backbone[4].parameters()
    state.optimizer = torch.optim.SGD([{"params": [*first], "lr_scale": 0.0}, {"params": [*second]}], lr=9.0)
    before = copy.deepcopy(state.network.backbone)
    train_step(state, make_batch(), HEADS, 0.1, CPU, StepOptions())
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.0, 0.1]
    assert torch.equal(state.network.backbone[1].weight, before[1].weight)
    assert not torch.equal(state.network.backbone[4].weight, before[4].weight)


def test_dropout_depends_on_seed_and_step_alone() -> None:
    options = StepOptions(seed=1)
    once = steps(options, dropout=0.5)
    torch.rand(17)  # whatever others drew
    assert torch.equal(steps(options, dropout=0.5), once)
    assert not torch.equal(steps(StepOptions(seed=2), dropout=0.5), once)
    later = make_state(dropout=0.5)
    later.step = 5
    train_step(later, make_batch(), HEADS, 0.05, CPU, options)
    assert not torch.equal(weights(later), steps(options, count=1, dropout=0.5))


def test_the_moving_average_lies_between_old_and_new_weights() -> None:
    state = make_state(ema=0.75)
    state.step = 5  # timm copies the weights in the first step
    before = weights(state)
    train_step(state, make_batch(), HEADS, 0.5, CPU, StepOptions())
    assert state.scored is not state.network
    average = torch.cat([value.flatten() for value in state.scored.parameters()])
    assert torch.allclose(average, 0.75 * before + 0.25 * weights(state), atol=1e-6)


def mixed_step(options: StepOptions, step: int) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Make a step on black (class x) and white (class y) images; return what the net saw, the loss and its logits."""
    state, seen = make_state(num_outputs=2), []
    state.step = step
    with torch.no_grad():
        state.network.backbone[4].weight.mul_(20)  # logits far apart, so that shares show in the loss
    network = state.network

    def forward(images: torch.Tensor) -> torch.Tensor:
        seen.append((images.clone(), network(images)))
        return seen[-1][1]

    state.forward = forward
    image = torch.zeros(8, 6, 8, 3, dtype=torch.uint8)
    image[4:] = 255
    target = torch.tensor([[0]] * 4 + [[1]] * 4)
    batch: Batch = {"index": torch.arange(8), "image": image, "target": target}
    loss = train_step(state, batch, ONE_HEAD, 0.0, CPU, options).item()
    return seen[0][0], loss, seen[0][1].detach()


def expected_loss(logits: torch.Tensor, share: float) -> float:
    own = torch.tensor([0] * 4 + [1] * 4)
    losses = [functional.cross_entropy(logits, classes).item() for classes in (own, 1 - own)]
    return share * losses[0] + (1 - share) * losses[1]


@pytest.mark.parametrize("step", range(4))
def test_mixup_weights_images_and_losses_alike(step: int) -> None:
    images, loss, logits = mixed_step(StepOptions(mixup=1.0), step)
    assert len(images[0].unique()) == 1
    share = 1 - images[0].unique().item() / 255  # a black image keeps this much of itself
    assert images[4].unique().item() == pytest.approx(255 * share, abs=1)
    assert 0 < share < 1
    assert loss == pytest.approx(expected_loss(logits, share), abs=0.02)


@pytest.mark.parametrize("step", range(4))
def test_cutmix_pastes_one_rectangle_and_weights_losses_by_area(step: int) -> None:
    images, loss, logits = mixed_step(StepOptions(cutmix=1.0), step)
    pasted = images[0, :, :, 0] == 255
    assert torch.equal(images[4, :, :, 0] == 0, pasted)
    assert set(images.unique().tolist()) <= {0, 255}
    rows, columns = pasted.any(dim=1).nonzero(), pasted.any(dim=0).nonzero()
    if len(rows):
        assert pasted.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    share = 1 - pasted.float().mean().item()
    assert loss == pytest.approx(expected_loss(logits, share), abs=1e-4)


def test_mixup_and_cutmix_together_take_turns() -> None:
    options = StepOptions(mixup=1.0, cutmix=1.0)
    kinds = {len(set(mixed_step(options, step)[0].unique().tolist()) - {0, 255}) > 0 for step in range(12)}
    assert kinds == {True, False}


def test_mixing_differs_between_steps_and_is_the_same_again() -> None:
    options = StepOptions(mixup=1.0)
    one, again, other = (mixed_step(options, step)[0] for step in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
