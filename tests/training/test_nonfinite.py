"""Steps with a non-finite loss or gradient are skipped and counted; too many in a row end the training."""

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from src.models.network import Network, Normalise
from src.runs.checkpoint import load_state
from src.training import step as step_module
from src.training.nonfinite import MAX_IN_A_ROW
from src.training.setup import begin_momentum
from src.training.step import TrainState, train_step
from src.training.trainer import Trainer
from tests.fixtures import Train
from tests.training.test_step import CPU, LAYOUT, make_batch, plain_settings

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "fused SGD": lambda net: torch.optim.SGD(net.parameters(), momentum=0.9, fused=True),
    "plain SGD": lambda net: torch.optim.SGD(net.parameters(), momentum=0.9),
    "fused AdamW": lambda net: torch.optim.AdamW(net.parameters(), fused=True),
    "with scaler": lambda net: torch.optim.AdamW(net.parameters()),
}


class SometimesNaN(nn.Module):
    """Returns its input, or NaN if `broken`."""

    broken = False

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * float("nan") if self.broken else values


def make_state(kind: str) -> tuple[TrainState, SometimesNaN]:
    torch.manual_seed(0)
    sometimes = SometimesNaN()
    layers = (nn.Flatten(), nn.Linear(144, 8), sometimes, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    network = Network(nn.Sequential(*layers), Normalise((0.5,) * 3, (0.25,) * 3, 8)).train()
    optimizer = OPTIMIZERS[kind](network)
    begin_momentum(optimizer)
    return TrainState(
        network=network,
        forward=network,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", enabled=kind == "with scaler"),
        ema=ModelEmaV3(network, decay=0.5),
    ), sometimes


@pytest.mark.parametrize("clip_grad", [None, 5.0])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_nan_step_is_counted_and_changes_nothing(kind: str, clip_grad: float | None) -> None:
    state, sometimes = make_state(kind)
    options = plain_settings(clip_grad=clip_grad)
    for number in range(3):
        assert train_step(state, make_batch(seed=number), LAYOUT, 0.01, CPU, options) > 0
    assert state.nonfinite.read() == (0, 0)
    before = copy.deepcopy(state.network.state_dict())
    moments = copy.deepcopy(state.optimizer.state_dict()["state"])

    sometimes.broken = True
    for number in range(2):
        assert train_step(state, make_batch(seed=number), LAYOUT, 0.01, CPU, options) == 0
    assert state.step == 5
    assert state.nonfinite.read() == (2, 2)
    for key, value in state.network.state_dict().items():
        if "num_batches" not in key:
            assert torch.equal(value, before[key]), key
    for number, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, moments[number][name]), name
    for key, value in state.ema.module.state_dict().items() if state.ema else ():
        assert value.isfinite().all(), key

    sometimes.broken = False
    assert train_step(state, make_batch(seed=9), LAYOUT, 0.01, CPU, options) > 0
    assert state.nonfinite.read() == (2, 0)
    assert any(not torch.equal(value, before[key]) for key, value in state.network.state_dict().items())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_first_step_can_be_skipped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Uninitialised memory may hold NaN.
    monkeypatch.setattr(torch, "empty_like", lambda like, **_: torch.full_like(like, float("nan")))
    state, sometimes = make_state(kind)
    untouched, _ = make_state(kind)
    for number in range(4):
        sometimes.broken = number == 0
        train_step(state, make_batch(seed=number), LAYOUT, 0.01, CPU, plain_settings())
        if number:
            train_step(untouched, make_batch(seed=number), LAYOUT, 0.01, CPU, plain_settings())
    for one, other in zip(state.network.parameters(), untouched.network.parameters(), strict=True):
        assert one.isfinite().all()
        if kind != "with scaler":  # its loss scale has halved
            assert torch.equal(one, other)


def test_zero_initialised_momentum_equals_momentum_from_the_first_gradient() -> None:
    states = [make_state("fused SGD")[0], make_state("plain SGD")[0]]
    for number in range(3):
        for state in states:
            train_step(state, make_batch(seed=number), LAYOUT, 0.01, CPU, plain_settings())
    for one, other in zip(*(state.network.parameters() for state in states), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_an_infinite_loss_with_finite_gradients_is_skipped_with_a_scaler_too(monkeypatch: pytest.MonkeyPatch) -> None:
    state, _ = make_state("with scaler")
    before = [weights.detach().clone() for weights in state.network.parameters()]
    loss_of = step_module.loss_of
    monkeypatch.setattr(step_module, "loss_of", lambda *given: loss_of(*given) + float("inf"))
    assert train_step(state, make_batch(), LAYOUT, 0.01, CPU, plain_settings()) == 0
    assert state.nonfinite.read() == (1, 1)
    for one, other in zip(state.network.parameters(), before, strict=True):
        assert torch.equal(one, other)


def break_steps(patch: pytest.MonkeyPatch, broken: Callable[[int], bool]) -> None:
    """Make the loss NaN in these steps, counted from 0."""
    gradients, loss_of = step_module._gradients, step_module.loss_of

    def sometimes(state: TrainState, *rest: Any) -> torch.Tensor:
        factor = float("nan") if broken(state.step) else 1.0
        patch.setattr(step_module, "loss_of", lambda *given: loss_of(*given) * factor)
        return gradients(state, *rest)

    patch.setattr(step_module, "_gradients", sometimes)


def test_training_skips_steps_and_reports_how_many(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_steps(patch, lambda step: step == 2)
        folder, ended = train("run")  # 3 epochs of 2 steps
    assert ended.code == 0, ended.err
    assert "1 steps skipped" in ended.out
    log = pd.read_csv(folder / "log.csv")
    assert log["skipped_steps"].tolist() == [0, 1, 0]
    assert log["loss"].notna().all()


def test_too_many_in_a_row_end_the_training_and_keep_the_last_good_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, ended = train("straight")
    assert ended.code == 0
    monkeypatch.setattr("src.training.trainer.MAX_IN_A_ROW", 2)
    saves: list[int] = []
    save = Trainer.save

    def noted(trainer: Trainer) -> None:
        saves.append(trainer.state.step)
        save(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", noted)
        break_steps(patch, lambda step: step >= 2)  # from the second epoch on
        folder, ended = train("run")
    assert ended.code == 2
    assert "epoch 2, step 2: 2 steps in a row had no finite loss or gradient" in ended.err
    assert "Traceback" not in ended.err
    assert saves == [2]
    assert load_state(folder / "last.pt")["step"] == 2
    assert train("run")[1].code == 0  # resumes there and gives the same result
    assert (folder / "last.safetensors").read_bytes() == (straight / "last.safetensors").read_bytes()


def test_steps_in_a_row_are_counted_across_epochs_and_saves(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.training.trainer.MAX_IN_A_ROW", 3)
    with monkeypatch.context() as patch:
        break_steps(patch, lambda step: step in (1, 2, 4, 5))  # last of epoch 1, first of 2, all of 3
        folder, ended = train("run")
    assert ended.code == 2
    assert "epoch 3, step 2: 2 steps in a row" in ended.err  # below the limit, but no step of the last epoch was finite
    assert pd.read_csv(folder / "log.csv")["skipped_steps"].tolist() == [1, 1]
    assert MAX_IN_A_ROW == 20
    break_steps(monkeypatch, lambda step: step in (1, 2, 3))
    assert "epoch 2, step 2: 3 steps in a row" in train("other")[1].err
