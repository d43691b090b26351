"""The training step: the only place where weights change."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn
from tqdm import tqdm

from src.competitions.spec import HeadLayout
from src.config import TrainSettings
from src.core.runtime import Compute, is_out_of_memory
from src.core.world import World
from src.data.loader import Batch
from src.training.losses import loss_of
from src.training.nonfinite import NonFiniteSteps
from src.training.profiler import Profiler

RANK_SEED = 1 << 40  # between the dropout seeds of ranks


@dataclass(kw_only=True)
class TrainState:
    """Everything that training changes."""

    network: nn.Module  # what is trained and saved
    forward: Callable[[torch.Tensor], torch.Tensor]  # the same, perhaps compiled
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None
    step: int = 0
    accumulate: int = 1  # micro-batches per step; doubled when memory runs out
    nonfinite: NonFiniteSteps = field(init=False)

    def __post_init__(self) -> None:
        self.nonfinite = NonFiniteSteps(self.network)

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and kept: the moving average if there is one."""
        return self.ema.module if self.ema else self.network


def _mix(
    images: torch.Tensor, settings: TrainSettings, rng: np.random.Generator
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Mix each image with its partner in the reversed batch; return the images, their own share, the partners.

    Sources: Zhang et al., mixup, 2018; Yun et al., CutMix, 2019.
    """
    partners = torch.arange(len(images) - 1, -1, -1, device=images.device)
    cut = settings.cutmix > 0 and (settings.mixup == 0 or rng.random() < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(alpha, alpha))
    if not cut:
        mixed = images.float().lerp(images[partners].float(), 1 - share)
        return mixed.round_().to(torch.uint8), share, partners
    height, width = images.shape[1:3]
    high, wide = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    mixed = images.clone()
    mixed[:, top : top + high, left : left + wide] = images[partners, top : top + high, left : left + wide]
    return mixed, 1 - high * wide / (height * width), partners


def _gradients(
    state: TrainState,
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    count: int,
    share: float,
    layout: HeadLayout,
    compute: Compute,
    settings: TrainSettings,
    profiler: Profiler,
) -> torch.Tensor:
    """Sum the gradients of all micro-batches of (images, target, partner's target), part of a batch of `count` images;
    return their share of the loss."""
    torch.manual_seed(settings.seed * 1_000_003 + state.step + compute.world.rank * RANK_SEED)  # dropout's
    own = len(tensors[0])
    total = torch.zeros((), device=compute.device)
    num_parts = max(1, min(state.accumulate, own // 2))
    for part, target, other in zip(*(tensor.tensor_split(num_parts) for tensor in tensors), strict=True):
        with profiler.phase("forward"):
            with compute.autocast():
                logits = state.forward(part)
            loss = loss_of(logits, target, layout, settings.loss, settings.label_smoothing) * share
            if share < 1:
                loss = loss + loss_of(logits, other, layout, settings.loss, settings.label_smoothing) * (1 - share)
            loss = loss * (len(part) / count)
        with profiler.phase("backward"):
            state.scaler.scale(loss).backward()
        total += loss.detach()
    return total


def _fitting_gradients(
    state: TrainState, tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], world: World, *rest: Any
) -> Any:
    """Return `_gradients`; if memory runs out, on any rank, halve the micro-batch and start the step again.

    The batch and its loss stay the same, except that batch norm sees smaller batches (and its running averages have
    seen those of the failed attempt).
    """
    count, loss = len(tensors[0]), None
    while True:
        try:
            loss = _gradients(state, tensors, *rest)
        except RuntimeError as error:
            if not is_out_of_memory(error) or state.accumulate >= count // 2:
                raise
            loss = None
        if world.most(loss is None) == [0]:
            return loss
        # Outside the handler: the error keeps the failed step's tensors alive.
        state.optimizer.zero_grad(set_to_none=True)
        state.accumulate = min(2 * state.accumulate, count // 2)
        torch.cuda.empty_cache()
        tqdm.write(
            f"out of memory: {-(-count // state.accumulate)} images at once from now on, "
            f"{state.accumulate} times per step; the batch stays {count}"
        )


def _update(state: TrainState, loss: torch.Tensor, clip_grad: float | None) -> torch.Tensor:
    """Make the optimizer's step unless loss or gradients are not finite; return whether it did, on the device.

    On a GPU nothing waits for the answer, except with optimizers that are neither fused nor scaled.
    """
    if state.scaler.is_enabled():  # it looks at gradients only
        gradients = [weights.grad for weights in state.network.parameters() if weights.grad is not None]
        torch._foreach_mul_(gradients, torch.where(torch.isfinite(loss), 1.0, torch.nan))
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), math.inf if clip_grad is None else clip_grad)
    finite = torch.isfinite(loss) & torch.isfinite(norm)
    if state.scaler.is_enabled():
        state.scaler.step(state.optimizer)
        state.scaler.update()
    elif hasattr(state.optimizer, "_step_supports_amp_scaling"):  # fused: it looks on the device
        state.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        state.optimizer.step()
    elif finite:
        state.optimizer.step()
    return finite


def train_step(
    state: TrainState,
    batch: Batch,
    layout: HeadLayout,
    lr: float,
    compute: Compute,
    settings: TrainSettings,
    profiler: Profiler | None = None,
) -> torch.Tensor:
    """Make one optimizer step at learning rate `lr`; return the loss (scalar, on the device, not synchronised).

    If loss or gradients are not finite, the step is skipped and counted in `state.nonfinite`, and 0 is returned.
    Dropout and mixing are keyed on (seed, step), so that a resumed training continues as if it had not stopped.
    """
    profiler = profiler or Profiler(None, compute.device)
    rng = np.random.default_rng([settings.seed, state.step])
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    images = batch["image"].to(compute.device, non_blocking=True)
    target = batch["target"].to(compute.device, non_blocking=True)
    share, partners = 1.0, None
    if settings.mixup or settings.cutmix:
        images, share, partners = _mix(images, settings, rng)
    other = target if partners is None else target[partners]
    tensors, world = (images, target, other), compute.world
    total: torch.Tensor = _fitting_gradients(
        state, tensors, world, batch["count"], share, layout, compute, settings, profiler
    )
    with profiler.phase("optimizer"):
        world.sum_gradients(list(state.network.parameters()))
        world.sum(total)
        applied = _update(state, total, settings.clip_grad)
        state.nonfinite.note(applied)
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if state.ema:
            state.ema.update(state.network, step=state.step)
    return torch.where(applied, total, 0)
