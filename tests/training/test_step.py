"""The training step: accumulation, mixing, clipping, and randomness keyed on (seed, step)."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from src.competitions.layout import HeadLayout
from src.config import TrainSettings
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.data.loader import Batch
from src.models.network import Network, Normalise
from src.training.step import TrainState, train_step

LAYOUT = HeadLayout((3, 2))
ONE_HEAD = HeadLayout((2,))
CPU = choose_compute("cpu", "fp32")
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
)


def plain_settings(**settings: Any) -> TrainSettings:
    """Return settings in which everything not given is off."""
    return TrainSettings(**{"label_smoothing": 0.0, "clip_grad": None, **settings})


def make_state(num_outputs: int = 5, dropout: float = 0.0, ema: float = 0.0, accumulate: int = 1) -> TrainState:
    torch.manual_seed(3)
    layers = (nn.Flatten(), nn.Linear(3 * 6 * 8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, num_outputs))
    network = Network(nn.Sequential(*layers), Normalise((0.5,) * 3, (0.25,) * 3, 8)).train()
    return TrainState(
        network=network,
        forward=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ema=ModelEmaV3(network, decay=ema) if ema else None,
        accumulate=accumulate,
    )


def make_batch(count: int = 10, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8))
    target = torch.from_numpy(np.stack([rng.integers(0, 3, count), rng.integers(0, 2, count)], axis=1))
    return {"index": torch.arange(count), "image": image, "target": target, "count": count}


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in state.network.parameters()]).clone()


def layers(state: TrainState) -> nn.Sequential:
    assert isinstance(state.network, Network)
    assert isinstance(state.network.backbone, nn.Sequential)
    return state.network.backbone


def weight_of(layer: nn.Module) -> torch.Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight


def steps(settings: TrainSettings, count: int = 3, dropout: float = 0.0, accumulate: int = 1) -> torch.Tensor:
    state = make_state(dropout=dropout, accumulate=accumulate)
    for number in range(count):
        train_step(state, make_batch(seed=number), LAYOUT, 0.05, CPU, settings)
    return weights(state)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
@pytest.mark.parametrize("clip_grad", [None, 0.5])
def test_accumulating_over_uneven_micro_batches_changes_nothing(mixup: float, clip_grad: float | None) -> None:
    full, split = (
        steps(plain_settings(mixup=mixup, clip_grad=clip_grad, label_smoothing=0.1), accumulate=accumulate)
        for accumulate in (1, 4)
    )
    assert torch.allclose(full, split, atol=1e-6)
    assert not torch.allclose(full, weights(make_state()), atol=1e-3)


def test_the_loss_is_the_same_for_any_accumulation() -> None:
    losses = [
        train_step(make_state(accumulate=accumulate), make_batch(), LAYOUT, 0.0, CPU, plain_settings()).item()
        for accumulate in (1, 3, 10)
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_gradients_are_clipped_to_the_limit() -> None:
    moved = {}
    for limit in (None, 0.01):
        state = make_state()
        before = weights(state)
        train_step(state, make_batch(), LAYOUT, 1.0, CPU, plain_settings(clip_grad=limit))
        moved[limit] = (weights(state) - before).norm().item()
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)
    assert moved[None] > 0.1


def test_each_parameter_group_scales_the_lr() -> None:
    state = make_state()
    first, second = layers(state)[1].parameters(), layers(state)[4].parameters()
    groups: list[dict[str, Any]] = [{"params": [*first], "lr_scale": 0.0}, {"params": [*second]}]
    state.optimizer = torch.optim.SGD(groups, lr=9.0)
    before = copy.deepcopy(layers(state))
    train_step(state, make_batch(), LAYOUT, 0.1, CPU, plain_settings())
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.0, 0.1]
    assert torch.equal(weight_of(layers(state)[1]), weight_of(before[1]))
    assert not torch.equal(weight_of(layers(state)[4]), weight_of(before[4]))


def test_dropout_depends_only_on_seed_and_step() -> None:
    settings = plain_settings(seed=1)
    once = steps(settings, dropout=0.5)
    torch.rand(17)  # draws by other code do not matter
    assert torch.equal(steps(settings, dropout=0.5), once)
    assert not torch.equal(steps(plain_settings(seed=2), dropout=0.5), once)
    later = make_state(dropout=0.5)
    later.step = 5
    train_step(later, make_batch(), LAYOUT, 0.05, CPU, settings)
    assert not torch.equal(weights(later), steps(settings, count=1, dropout=0.5))


def test_ema_weights_lie_between_old_and_new() -> None:
    state = make_state(ema=0.75)
    state.step = 5  # timm copies the weights in the first step
    before = weights(state)
    train_step(state, make_batch(), LAYOUT, 0.5, CPU, plain_settings())
    assert state.scored is not state.network
    average = torch.cat([value.flatten() for value in state.scored.parameters()])
    assert torch.allclose(average, 0.75 * before + 0.25 * weights(state), atol=1e-6)


def mixed_step(settings: TrainSettings, step: int) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Make a step on black (class 0) and white (class 1) images; return the net's input, the loss and the logits."""
    state, seen = make_state(num_outputs=2), []
    state.step = step
    with torch.no_grad():
        weight_of(layers(state)[4]).mul_(20)  # logits far apart, so that the loss depends on the shares
    network = state.network

    def forward(images: torch.Tensor) -> torch.Tensor:
        seen.append((images.clone(), network(images)))
        return seen[-1][1]

    state.forward = forward
    image = torch.zeros(8, 6, 8, 3, dtype=torch.uint8)
    image[4:] = 255
    target = torch.tensor([[0]] * 4 + [[1]] * 4)
    batch: Batch = {"index": torch.arange(8), "image": image, "target": target, "count": 8}
    loss = train_step(state, batch, ONE_HEAD, 0.0, CPU, settings).item()
    return seen[0][0], loss, seen[0][1].detach()


def expected_loss(logits: torch.Tensor, share: float) -> float:
    own = torch.tensor([0] * 4 + [1] * 4)
    losses = [functional.cross_entropy(logits, classes).item() for classes in (own, 1 - own)]
    return share * losses[0] + (1 - share) * losses[1]


@pytest.mark.parametrize("step", range(4))
def test_mixup_weights_images_and_losses_equally(step: int) -> None:
    images, loss, logits = mixed_step(plain_settings(mixup=1.0), step)
    assert len(images[0].unique()) == 1
    share = 1 - images[0].unique().item() / 255  # a black image keeps this much of itself
    assert images[4].unique().item() == pytest.approx(255 * share, abs=1)
    assert 0 < share < 1
    assert loss == pytest.approx(expected_loss(logits, share), abs=0.02)


@pytest.mark.parametrize("step", range(4))
def test_cutmix_pastes_one_rectangle_and_weights_losses_by_area(step: int) -> None:
    images, loss, logits = mixed_step(plain_settings(cutmix=1.0), step)
    pasted = images[0, :, :, 0] == 255
    assert torch.equal(images[4, :, :, 0] == 0, pasted)
    assert set(images.unique().tolist()) <= {0, 255}
    rows, columns = pasted.any(dim=1).nonzero(), pasted.any(dim=0).nonzero()
    if len(rows):
        assert pasted.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    share = 1 - pasted.float().mean().item()
    assert loss == pytest.approx(expected_loss(logits, share), abs=1e-4)


def test_mixup_and_cutmix_alternate() -> None:
    settings = plain_settings(mixup=1.0, cutmix=1.0)
    kinds = {len(set(mixed_step(settings, step)[0].unique().tolist()) - {0, 255}) > 0 for step in range(12)}
    assert kinds == {True, False}


def test_mixing_differs_between_steps_and_is_reproducible() -> None:
    settings = plain_settings(mixup=1.0)
    one, again, other = (mixed_step(settings, step)[0] for step in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def refuse(state: TrainState, limit: int, error: Exception) -> list[int]:
    """Make the forward pass fail on more than `limit` images; return the list in which it records batch sizes."""
    network, batch_sizes = state.network, []

    def forward(images: torch.Tensor) -> torch.Tensor:
        batch_sizes.append(len(images))
        if len(images) > limit:
            raise error
        return network(images)

    state.forward = forward
    return batch_sizes


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_out_of_memory_halves_micro_batches_and_changes_nothing_else(
    mixup: float, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    unlimited, limited = make_state(), make_state()
    batch_sizes = refuse(limited, 3, error)
    settings = plain_settings(mixup=mixup, clip_grad=0.5, label_smoothing=0.1)
    for number in range(3):
        losses = [
            train_step(state, make_batch(seed=number), LAYOUT, 0.05, CPU, settings) for state in (unlimited, limited)
        ]
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6)
    assert torch.allclose(weights(unlimited), weights(limited), atol=1e-6)
    assert batch_sizes == [10, 5, *[3, 3, 2, 2] * 3]  # the size that fits is kept for later steps
    assert (unlimited.accumulate, limited.accumulate, limited.step) == (1, 4, 3)
    assert capsys.readouterr().out.splitlines() == [
        "out of memory: 5 images at once from now on, 2 times per step; the batch stays 10",
        "out of memory: 3 images at once from now on, 4 times per step; the batch stays 10",
    ]


@pytest.mark.parametrize("failing", ["forward", "backward"])
def test_gradients_of_a_failed_attempt_are_dropped(failing: str) -> None:
    unlimited, limited = make_state(dropout=0.5, accumulate=4), make_state(dropout=0.5, accumulate=2)
    calls = iter(range(1, 100))

    def fail(*_: object) -> None:
        raise OUT_OF_MEMORY[0]

    def forward(images: torch.Tensor) -> torch.Tensor:
        second = next(calls) == 2  # after the gradients of the first half
        if second and failing == "forward":
            fail()
        logits: torch.Tensor = limited.network(images)
        if second:
            logits.register_hook(fail)
        return logits

    limited.forward = forward
    for state in (unlimited, limited):
        train_step(state, make_batch(), LAYOUT, 0.05, CPU, plain_settings())
    assert torch.equal(weights(unlimited), weights(limited))
    assert next(calls) == 2 + 4 + 1


@pytest.mark.parametrize(
    ("error", "attempts"), [(OUT_OF_MEMORY[0], [8, 4, 2]), (OUT_OF_MEMORY[1], [8, 4, 2]), (RuntimeError("other"), [8])]
)
def test_out_of_memory_on_two_images_and_other_errors_are_raised(error: Exception, attempts: list[int]) -> None:
    state = make_state()
    before, batch_sizes = weights(state), refuse(state, 1, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        train_step(state, make_batch(count=8), LAYOUT, 0.05, CPU, plain_settings())
    assert batch_sizes == attempts
    assert torch.equal(weights(state), before)
    assert state.step == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_errors_of_images_are_weighted_and_averaged(accumulate: int) -> None:
    state, batch = make_state(num_outputs=1, accumulate=accumulate), make_batch(8)
    weight = torch.arange(8.0)[:, None].expand(8, 2)
    expected = (state.network(batch["image"])[:, 0] * weight[:, 0]).mean().item()
    found = train_step(state, {**batch, "weight": weight}, LAYOUT, 0.0, CPU, plain_settings(loss="masked"))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_out_of_memory_does_not_split_what_is_compared_as_a_whole() -> None:
    limited = make_state()
    refuse(limited, 3, OUT_OF_MEMORY[0])
    with pytest.raises(InputError, match="out of memory; --loss contrastive .* give a smaller --batch-size"):
        train_step(limited, make_batch(), LAYOUT, 0.05, CPU, plain_settings(loss="contrastive"))
