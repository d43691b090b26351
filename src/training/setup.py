"""What a training is made of: its flags checked, its network, optimizer and loader."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers
from timm.utils import ModelEmaV3
from torch import nn

from src.competitions.spec import Competition
from src.config import TrainConfig, check_name, check_range
from src.core.errors import InputError
from src.core.runtime import Compute, choose_compute, memory_limit
from src.data.device import fits, on_device
from src.data.loader import Batches, Loader
from src.inference.autotune import check_compile
from src.models.build import build_model, normalisation, read_options
from src.models.heads import num_classes_per_head
from src.models.network import Network, Normalise
from src.training.step import StepOptions, TrainState


def check_flags(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for flags that cannot be."""
    for name in ("epochs", "batch_size", "accumulate", "early_stopping"):
        check_range(name.replace("_", "-"), getattr(config, name), 1)
    for name in ("mixup", "cutmix", "seed", "num_threads", "weight_decay"):
        check_range(name.replace("_", "-"), getattr(config, name), 0)
    for name in ("lr", "clip_grad"):
        check_range(name.replace("_", "-"), getattr(config, name), 1e-9)
    for name in ("warmup", "label_smoothing", "dropout", "drop_path", "ema", "momentum"):
        check_range(name.replace("_", "-"), getattr(config, name), 0, 0.99999)
    check_range("progressive-resize", config.progressive_resize, 0.1, 1)
    if config.freeze_backbone and (config.mixup or config.cutmix or config.progressive_resize < 1):
        raise InputError(
            "--freeze-backbone: mixup, cutmix and progressive-resize need images, not features; leave them out"
        )
    if config.freeze_backbone and not config.pretrained and not config.weights:
        raise InputError("--freeze-backbone --no-pretrained: features of random weights say nothing; give --weights")
    check_range("save-every", config.save_every, 0)
    check_range("layer-decay", config.layer_decay, 0.01, 1)
    for name, value in asdict(config.augment).items():
        check_range(f"augment.{name}", value, 0, 180 if name in ("rotate", "shear") else 1)
    check_name("run-name", config.run_name)
    if config.resume and config.restart:
        raise InputError("--resume --restart: one goes on, the other begins anew; give one of them")
    if config.batch_size < 2 * config.accumulate:
        raise InputError(
            f"--batch-size {config.batch_size} --accumulate {config.accumulate}: batch norm needs 2 images at once"
        )
    check_compile(config.compile)
    if config.augment.hflip and not competition.hflip_ok:
        raise InputError(
            f"--augment.hflip {config.augment.hflip}: a horizontal flip changes {competition.name}'s labels"
        )
    if config.augment.concat and competition.pad_class is None:
        raise InputError(f"--augment.concat {config.augment.concat}: {competition.name}'s answers are no strings")
    if config.cutmix and len(competition.heads) > 1:
        raise InputError(
            f"--cutmix {config.cutmix}: would cut strings apart; use it where there is one class per image"
        )
    known = [str(name) for name in list_optimizers(exclude_filters=["fused*", "bnb*", "adahessian"])]
    if config.optimizer not in known:
        raise InputError(f"--optimizer {config.optimizer}: there are {', '.join(known)}")


FITTING = 0.7  # share of the memory that a cache may take before its images are shuffled in blocks
FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # update all weights in one kernel on every device
RESIZE_SHARE = 0.7  # share of the epochs in which images grow, where they do


def make_network(config: TrainConfig, competition: Competition, size: tuple[int, int], saved: bool) -> Network:
    """Return the network, new or with pretrained weights; where training has begun, last.pt holds its weights."""
    torch.manual_seed(config.seed)  # the new layers' weights
    backbone = build_model(
        config.backbone,
        sum(num_classes_per_head(competition.heads)),
        size,
        competition.channels,
        read_options(config.backbone_options),
        pretrained=config.pretrained and not saved,
        weights=None if saved else config.weights,
        dropout=config.dropout,
        drop_path=config.drop_path,
    )
    return Network(backbone, Normalise(*normalisation(backbone, competition.channels), size[1]))


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begin fused SGD's momentum at zero: else it is memory as found, and stays so where the first step is skipped."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"]:
            for weights in group["params"]:
                optimizer.state[weights]["momentum_buffer"] = torch.zeros_like(weights)


def make_state(config: TrainConfig, network: nn.Module, compute: Compute) -> TrainState:
    """Return the network with its optimizer, scaler and moving average. Raises InputError for flags that do not fit."""
    kind = get_optimizer_class(config.optimizer, bind_defaults=False)
    fused: dict[str, Any] = {"fused": True} if kind in FUSED else {}
    try:
        optimizer = create_optimizer_v2(
            network.backbone if isinstance(network, Network) else network,
            opt=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay,
            **fused,
        )
    except (AttributeError, AssertionError) as error:
        if config.layer_decay is None:
            raise InputError(f"--optimizer {config.optimizer}: cannot be had here ({error})") from error
        raise InputError(f"--layer-decay {config.layer_decay}: {config.backbone} does not name its layers") from error
    begin_momentum(optimizer)
    return TrainState(
        network=network,
        forward=torch.compile(network) if config.compile else network,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16),
        ema=ModelEmaV3(network, decay=config.ema, use_warmup=True) if config.ema else None,
        accumulate=config.accumulate,
    )


def make_loader(
    config: TrainConfig,
    competition: Competition,
    images: np.ndarray,
    rows: np.ndarray,
    targets: np.ndarray,
    size: tuple[int, int],
    train: bool,
    in_blocks: bool | None = None,
) -> Loader:
    """Serve these rows of a cache (N, H, W, 3), with targets (len(rows), num_heads), to train on or to score."""
    if len(rows) == 0:
        raise InputError("no image is left to train on or to score; look at folds.csv")
    hflip = config.augment.hflip if config.augment.hflip is not None else 0.5 * competition.hflip_ok
    concat = config.augment.concat if config.augment.concat is not None else 0.4 * (competition.pad_class is not None)
    compute = choose_compute(config.device, config.precision)
    if in_blocks is None:  # a training that was begun goes on in the order in which it was
        in_blocks = train and images.nbytes > FITTING * memory_limit()
    if in_blocks:
        print(f"the cache of {images.nbytes / 2**30:.1f} GiB is larger than the memory: images are shuffled in blocks")
    return Loader(
        images=images,
        rows=rows,
        targets=targets,
        image_size=size,
        batch_size=config.batch_size if train else 256,
        progressive_resize=config.progressive_resize if train else 1.0,
        resize_epochs=min(round(RESIZE_SHARE * config.epochs), config.epochs - 1),
        policy=replace(config.augment, hflip=hflip, concat=concat) if train else None,
        hflip_ok=competition.hflip_ok,
        pad_class=competition.pad_class,
        seed=config.seed,
        in_blocks=in_blocks,
        num_threads=compute.num_loader_threads if config.num_threads is None else config.num_threads,
        pin=compute.device.type == "cuda",
    )


def place(config: TrainConfig, loader: Loader, compute: Compute) -> Batches:
    """Return the loader, or what serves the same from the GPU's memory, where that is wanted and has room."""
    wanted = config.cache_on_device == "on" or (config.cache_on_device == "auto" and compute.device.type == "cuda")
    if not wanted:
        return loader
    num_bytes = len(loader.rows) * loader.images[0].nbytes
    if loader.policy and loader.policy.effects:
        print("images stay in the machine's memory: --augment.effects are made by albumentations, on the CPU")
    elif not fits(num_bytes, compute.device):
        print(f"images stay in the machine's memory: the GPU has no room for {num_bytes / 2**30:.1f} GiB of them")
    else:
        return on_device(loader, compute.device, config.compile)
    return loader


def step_options(config: TrainConfig) -> StepOptions:
    """Return what train_step does beside the plain step."""
    return StepOptions(
        label_smoothing=config.label_smoothing,
        mixup=config.mixup,
        cutmix=config.cutmix,
        clip_grad=config.clip_grad,
        seed=config.seed,
    )
