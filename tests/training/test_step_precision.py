"""A step in half precision on a GPU, and with too little memory."""

import pytest
import torch

from src.core.runtime import choose_compute, to_device
from src.training.step import TrainState, train_step
from tests.training.test_step import CPU, LAYOUT, make_batch, make_state, plain_settings, weights


def on_gpu(init_scale: float) -> TrainState:
    state = make_state(accumulate=2)
    to_device(state.network, choose_compute("cuda", "fp16"))
    state.optimizer = torch.optim.SGD(state.network.parameters(), lr=1.0)
    state.scaler = torch.amp.GradScaler("cuda", init_scale=init_scale)
    return state


@pytest.mark.gpu
@pytest.mark.parametrize("clip_grad", [None, 0.05])
def test_a_half_precision_step_on_a_gpu_matches_the_cpu(clip_grad: float | None) -> None:
    cpu, gpu, settings = make_state(), on_gpu(1024.0), plain_settings(clip_grad=clip_grad, mixup=0.4)
    before = weights(cpu)
    losses = [
        train_step(state, make_batch(), LAYOUT, 0.5, compute, settings).item()
        for state, compute in ((cpu, CPU), (gpu, choose_compute("cuda", "fp16")))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    moved, moved_on_gpu = weights(cpu) - before, weights(gpu).cpu() - before
    assert (moved - moved_on_gpu).norm() < 0.02 * moved.norm()
    assert moved.norm() > 0.02


@pytest.mark.gpu
def test_a_half_precision_overflow_changes_the_scale_and_no_weight() -> None:
    state = on_gpu(2.0**60)
    before = weights(state)
    loss = train_step(state, make_batch(), LAYOUT, 0.5, choose_compute("cuda", "fp16"), plain_settings())
    assert torch.isfinite(loss)
    assert torch.equal(weights(state), before)
    assert state.scaler.get_scale() == 2.0**59
