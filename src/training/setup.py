"""Network and optimizer of a training, made from its flags."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.utils import ModelEmaV3
from torch import nn

from src.competitions.spec import Competition
from src.config import TrainSettings
from src.core.errors import InputError
from src.core.runtime import Compute
from src.data.levels import Levels
from src.models.build import build_model, draw_last_layer, read_options
from src.models.contract import find_backbone, normalisation
from src.models.network import Network, Normalise
from src.training.step import TrainState

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # update all weights in one kernel on every device


def normalisation_of(
    backbone: nn.Module, competition: Competition, levels: Levels | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of each channel: those of the network's pictures, or the bands' own."""
    return (levels.mean, levels.std) if levels else normalisation(backbone, competition.channels)


def make_network(
    settings: TrainSettings,
    competition: Competition,
    size: tuple[int, int],
    resumed: bool,
    levels: Levels | None = None,
) -> Network:
    """Return the network, new or with pretrained weights; of a resumed training, last.pt holds the weights."""
    torch.manual_seed(settings.seed)  # the new layers' weights
    backbone = build_model(
        settings.backbone,
        competition.layout,
        size,
        competition.channels,
        read_options(settings.backbone_options),
        pretrained=settings.pretrained and not settings.start_from and not resumed,
        weights=settings.weights if not resumed or find_backbone(settings.backbone).takes_weights_file else None,
        dropout=settings.dropout,
        drop_path=settings.drop_path,
    )
    if settings.loss == "contrastive":
        draw_last_layer(backbone)
    mean, std = normalisation_of(backbone, competition, levels)
    return Network(backbone, Normalise(mean, std, size[1], competition.depth))


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Start fused SGD's momentum at zero: otherwise it is uninitialised, and stays so if the first step is skipped."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"]:
            for weights in group["params"]:
                optimizer.state[weights]["momentum_buffer"] = torch.zeros_like(weights)


def make_state(
    settings: TrainSettings, network: nn.Module, compute: Compute, pad_class: int | None = None
) -> TrainState:
    """Return the network with its optimizer, scaler and moving average. Raises InputError for flags that do not fit.

    `pad_class` is that of strings.
    """
    kind = get_optimizer_class(settings.optimizer, bind_defaults=False)
    fused: dict[str, Any] = {"fused": True} if kind in FUSED else {}
    try:
        optimizer = create_optimizer_v2(
            network.backbone if isinstance(network, Network) else network,
            opt=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            layer_decay=settings.layer_decay,
            **fused,
        )
    except (AttributeError, AssertionError) as error:
        if settings.layer_decay is None:
            raise InputError(f"--optimizer {settings.optimizer}: is not available here ({error})") from error
        raise InputError(f"--layer-decay {settings.layer_decay}: {settings.backbone} has no layer names") from error
    begin_momentum(optimizer)
    return TrainState(
        network=network,
        forward=torch.compile(network) if settings.compile else network,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16),
        ema=ModelEmaV3(network, decay=settings.ema, use_warmup=True) if settings.ema else None,
        accumulate=settings.accumulate,
        pad_class=pad_class,
    )
