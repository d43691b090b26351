"""Steps without a finite loss or gradient: left out, counted, without a trace; too many in a row end the training."""

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from src.engine import step as step_module
from src.engine.checkpoint import load_state
from src.engine.inference import Network, Normalise
from src.engine.loop import Fit
from src.engine.skipping import MAX_IN_A_ROW
from src.engine.step import StepOptions, TrainState, train_step
from tests.engine.test_step import CPU, HEADS, make_batch

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "fused SGD": lambda net: torch.optim.SGD(net.parameters(), momentum=0.9, fused=True),
    "plain SGD": lambda net: torch.optim.SGD(net.parameters(), momentum=0.9),
    "fused AdamW": lambda net: torch.optim.AdamW(net.parameters(), fused=True),
    "with scaler": lambda net: torch.optim.AdamW(net.parameters()),
}


class Sometimes(nn.Module):
    """Returns what it gets, or NaN."""

    broken = False

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * float("nan") if self.broken else values


def make_state(kind: str) -> tuple[TrainState, Sometimes]:
    torch.manual_seed(0)
    sometimes = Sometimes()
    layers = (nn.Flatten(), nn.Linear(144, 8), sometimes, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    network = Network(nn.Sequential(*layers), Normalise((0.5,) * 3, (0.25,) * 3, 8)).train()
    return TrainState(
        network=network,
        forward=network,
        optimizer=OPTIMIZERS[kind](network),
        scaler=torch.amp.GradScaler("cpu", enabled=kind == "with scaler"),
        ema=ModelEmaV3(network, decay=0.5),
    ), sometimes


@pytest.mark.parametrize("clip_grad", [None, 5.0])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_with_nan_leaves_no_trace_and_is_counted(kind: str, clip_grad: float | None) -> None:
    state, sometimes = make_state(kind)
    options = StepOptions(clip_grad=clip_grad)
    for number in range(3):
        assert train_step(state, make_batch(seed=number), HEADS, 0.01, CPU, options) > 0
    assert state.skipping.read() == (0, 0)
    before = copy.deepcopy(state.network.state_dict())
    moments = copy.deepcopy(state.optimizer.state_dict()["state"])
    average = copy.deepcopy(state.ema.module.state_dict()) if state.ema else {}

    sometimes.broken = True
    for number in range(2):
        assert train_step(state, make_batch(seed=number), HEADS, 0.01, CPU, options) == 0
    assert state.step == 5
    assert state.skipping.read() == (2, 2)
    for key, value in state.network.state_dict().items():
        if "num_batches" not in key:
            assert torch.equal(value, before[key]), key
    for number, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, moments[number][name]), name
    for key, value in state.ema.module.state_dict().items() if state.ema else ():
        assert value.isfinite().all(), key
        if "running" in key:
            assert torch.equal(value, average[key]), key

    sometimes.broken = False
    assert train_step(state, make_batch(seed=9), HEADS, 0.01, CPU, options) > 0
    assert state.skipping.read() == (2, 0)
    assert any(not torch.equal(value, before[key]) for key, value in state.network.state_dict().items())


def break_steps(patch: pytest.MonkeyPatch, broken: Callable[[int], bool]) -> None:
    """Let the loss of these steps, counted from 0, be NaN."""
    gradients, loss_of = step_module._gradients, step_module.loss_of

    def sometimes(state: TrainState, *rest: Any) -> torch.Tensor:
        factor = float("nan") if broken(state.step) else 1.0
        patch.setattr(step_module, "loss_of", lambda *given: loss_of(*given) * factor)
        return gradients(state, *rest)

    patch.setattr(step_module, "_gradients", sometimes)


def test_a_training_leaves_steps_out_and_says_how_many(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_steps(patch, lambda step: step == 2)
        folder, ended = train("run")  # 3 epochs of 2 steps
    assert ended.code == 0, ended.err
    assert "1 steps left out" in ended.out
    log = pd.read_csv(folder / "log.csv")
    assert log["skipped_steps"].tolist() == [0, 1, 0]
    assert log["loss"].notna().all()


def test_too_many_in_a_row_end_the_training_and_keep_the_last_good_checkpoint(
    train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, ended = train("straight")
    assert ended.code == 0
    saves: list[int] = []
    save = Fit.save
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "save", lambda fit: saves.append(fit.state.step) or save(fit))
        break_steps(patch, lambda step: step >= 2)  # from the second epoch on
        folder, ended = train("run")
    assert ended.code == 2
    assert "epoch 2, step 2: 2 steps in a row had no finite loss or gradient" in ended.err
    assert "Traceback" not in ended.err
    assert saves == [2]
    assert load_state(folder / "last.pt")["step"] == 2
    assert train("run")[1].code == 0  # goes on from there, and ends where it would have
    assert (folder / "last.safetensors").read_bytes() == (straight / "last.safetensors").read_bytes()


def test_the_row_is_counted_over_epochs_and_saves(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.engine.loop.MAX_IN_A_ROW", 3)
    break_steps(monkeypatch, lambda step: step in (1, 2, 4, 5))  # last of epoch 1, first of 2, all of 3
    folder, ended = train("run")
    assert ended.code == 2
    assert "epoch 3, step 2: 2 steps in a row" in ended.err
    assert pd.read_csv(folder / "log.csv")["skipped_steps"].tolist() == [1, 1]
    assert MAX_IN_A_ROW == 20
    kept = load_state(folder / "last.pt")
    assert kept["within"]["skipped_in_a_row"] == 0
