"""The training step: the only place where weights change."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn
from tqdm import tqdm

from src.competitions.layout import HeadLayout
from src.config import TrainSettings
from src.core.errors import InputError
from src.core.runtime import Compute, is_out_of_memory
from src.core.world import World
from src.data.loader import Batch
from src.training.auxiliary_heads import auxiliary_flags, auxiliary_loss
from src.training.losses import LOSSES, loss_of
from src.training.nonfinite import NonFiniteSteps
from src.training.pretraining import LAYERS
from src.training.profiler import Profiler
from src.training.sharpness import sharpest_nearby
from src.training.whole_batch import WholeBatch

RANK_SEED = 1 << 40  # between the dropout seeds of ranks with --compile


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
    pad_class: int | None = None  # of strings
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

    Of an odd number of images the middle one is its own partner; with --aug-repeats these are its copies.
    Sources: Zhang et al., mixup, 2018; Yun et al., CutMix, 2019.
    """
    partners = torch.arange(len(images) - 1, -1, -1, device=images.device)
    # The same bits as int16: not every device picks images of uint16.
    held = images if images.dtype == torch.uint8 else images.view(torch.int16)
    cut = settings.cutmix > 0 and (settings.mixup == 0 or rng.random() < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(alpha, alpha))
    if not cut:
        mixed = images.float().lerp(held[partners].view(images.dtype).float(), 1 - share)
        return mixed.round_().to(images.dtype), share, partners
    height, width = images.shape[1:3]
    high, wide = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    mixed = held.clone()
    mixed[:, top : top + high, left : left + wide] = held[partners, top : top + high, left : left + wide]
    return mixed.view(images.dtype), 1 - high * wide / (height * width), partners


@dataclass(frozen=True)
class _Part:
    """This rank's part of a batch, on the device."""

    images: torch.Tensor
    target: torch.Tensor
    partners_target: torch.Tensor  # of the images they are mixed with
    share: float  # of the images in the mixtures
    weight: torch.Tensor | None  # what each target counts in the loss ...
    partners_weight: torch.Tensor | None  # ... and each target of their partners
    boxes: torch.Tensor | None  # see Batch ...
    partners_boxes: torch.Tensor | None  # ... and those of their partners
    rows: torch.Tensor  # their positions in the whole batch ...
    count: int  # ... of so many images

    def split(self, accumulate: int, world: World) -> list["_Part"]:
        """Return at most `accumulate` micro-batches of two images or more, as many as every other rank."""
        number = max(1, min(accumulate, world.smallest_share(self.count) // 2))
        return [
            _Part(
                self.images[rows], self.target[rows], self.partners_target[rows], self.share,
                _picked(self.weight, rows), _picked(self.partners_weight, rows),
                _picked(self.boxes, rows), _picked(self.partners_boxes, rows),
                self.rows[rows], self.count,
            )
            for rows in _slices(len(self.rows), number)
        ]  # fmt: skip


def _picked(values: torch.Tensor | None, rows: slice | torch.Tensor) -> torch.Tensor | None:
    return None if values is None else values[rows]


def _slices(count: int, number: int) -> list[slice]:
    """Return `number` nearly equal parts of `count` rows, the first ones one longer, as tensor_split makes them."""
    edges = [part * (count // number) + min(part, count % number) for part in range(number + 1)]
    return [slice(start, end) for start, end in pairwise(edges)]


def _forward(state: TrainState, part: _Part, compute: Compute, settings: TrainSettings, is_first: bool) -> torch.Tensor:
    """Return logits. Dropout draws the same for an image however the batch is split, except with --compile.

    Compiled, the first micro-batch of a step sets the seed, and each rank has its own.
    """
    seed, context = settings.seed * 1_000_003 + state.step, compute.autocast()
    if len(part.rows) == part.count or settings.compile:
        if is_first:
            torch.manual_seed(seed + compute.world.rank * RANK_SEED)
        with context:
            return state.forward(part.images)
    torch.manual_seed(seed)
    with context, WholeBatch(part.rows, part.count, compute.world, settings.sync_batch_norm):
        return state.forward(part.images)


def _loss(
    state: TrainState,
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    boxes: torch.Tensor | None,
    layout: HeadLayout,
    settings: TrainSettings,
) -> torch.Tensor:
    """Return the loss of the answers and, if auxiliary heads are trained too, their weighted ones."""
    if settings.loss in LAYERS:
        of_image = weight if weight is None else weight[:, 0]
        return LOSSES[settings.loss]["class"](logits.float(), target[:, 0], settings.label_smoothing, of_image)
    outputs, auxiliary = logits.tensor_split([layout.num_outputs], dim=1)
    soft = settings.soft_labels is not None
    loss = loss_of(outputs, target, layout, settings.loss, settings.label_smoothing, weight, soft)
    if not auxiliary_flags(settings):
        return loss
    return loss + auxiliary_loss(auxiliary, target, boxes, weight, settings, state.pad_class)


def _gradients(
    state: TrainState,
    parts: list[_Part],
    layout: HeadLayout,
    compute: Compute,
    settings: TrainSettings,
    profiler: Profiler,
) -> torch.Tensor:
    """Sum the gradients of all micro-batches; return their share of the batch's loss."""
    total = torch.zeros((), device=compute.device)
    for number, part in enumerate(parts):
        with profiler.phase("forward"):
            logits = _forward(state, part, compute, settings, number == 0)
            loss = _loss(state, logits, part.target, part.weight, part.boxes, layout, settings) * part.share
            if part.share < 1:
                theirs = part.partners_target, part.partners_weight, part.partners_boxes
                loss = loss + _loss(state, logits, *theirs, layout, settings) * (1 - part.share)
            loss = loss * (len(part.rows) / part.count)
        with profiler.phase("backward"):
            state.scaler.scale(loss).backward()
        total += loss.detach()
    return total


def _not_split_further(settings: TrainSettings, world: World) -> str:
    """Return why a micro-batch cannot be halved when memory runs out, and what to do; "" if it can."""
    if settings.needs_whole_batch:
        return f"out of memory; --loss {settings.loss} needs a whole batch at once: give a smaller --batch-size"
    if settings.sync_batch_norm and world.size > 1:  # the others wait in the middle of the step
        return f"rank {world.rank}: out of memory; with --sync-batch-norm give a larger --accumulate yourself"
    return ""


def _fitting_gradients(
    state: TrainState, part: _Part, layout: HeadLayout, compute: Compute, settings: TrainSettings, profiler: Profiler
) -> torch.Tensor:
    """Return `_gradients`; if memory runs out, on any rank, halve the micro-batch and start the step again.

    The batch and its loss stay the same, except that batch norm sees smaller batches (and its running averages have
    seen those of the failed attempt).
    """
    world = compute.world
    most, loss = world.smallest_share(part.count) // 2, None
    while True:
        try:
            loss = _gradients(state, part.split(state.accumulate, world), layout, compute, settings, profiler)
        except RuntimeError as error:
            if not is_out_of_memory(error) or state.accumulate >= most:
                raise
            if why := _not_split_further(settings, world):
                raise InputError(why) from error
            loss = None
        if world.most(loss is None) == [0] and loss is not None:
            return loss
        # Outside the handler: the error keeps the failed step's tensors alive.
        state.optimizer.zero_grad(set_to_none=True)
        state.accumulate = min(2 * state.accumulate, most)
        torch.cuda.empty_cache()
        tqdm.write(
            f"out of memory: {-(-part.count // (state.accumulate * world.size))} images at once from now on, "
            f"{state.accumulate} times per step; the batch stays {part.count}"
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
    weight = batch["weight"].to(compute.device, non_blocking=True) if "weight" in batch else None
    boxes = batch["boxes"].to(compute.device, non_blocking=True) if "boxes" in batch else None
    share, theirs, world = 1.0, (target, weight, boxes), compute.world
    if settings.mixup or settings.cutmix:
        images, share, partners = _mix(images, settings, rng)
        theirs = target[partners], _picked(weight, partners), _picked(boxes, partners)
    rows = torch.from_numpy(world.share_of(batch["count"], world.rank)).to(compute.device, non_blocking=True)
    part = _Part(images, target, theirs[0], share, weight, theirs[1], boxes, theirs[2], rows, batch["count"])
    rest = (layout, compute, settings, profiler)
    total = _fitting_gradients(state, part, *rest)
    if settings.sam:
        world.sum_gradients(list(state.network.parameters()))
        with sharpest_nearby(state.network, settings.sam):
            _fitting_gradients(state, part, *rest)
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
