"""Which networks there are, and what a network of one's own must be.

A network file, under src/models/ or anywhere as `--backbone path/to/mine.py`, defines a function of the file's name:

    @register_model  # from timm.models
    def mine(pretrained: bool = False, **kwargs: Any) -> nn.Module: ...

- kwargs hold num_classes, in_chans, drop_rate, img_size (unless refused) and what --backbone-options and --drop-path
  give. A parameter called `head_widths` receives the number of classes of each head.
- The network turns (B, in_chans, H, W) float32, normalised RGB, into logits (B, num_classes), all heads side by side.
- Its last layer is called `head`, or `pretrained_cfg["classifier"]` names it: `--weights` leaves it new for other
  classes.
- `pretrained_cfg["mean"]` and `["std"]` (of RGB in [0, 1]) normalise its images; without them 0.5 and 0.25.
"""

import difflib
import inspect
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from torch import nn

from src.competitions.spec import HeadLayout
from src.core.errors import InputError
from src.core.modules import load_module


def find_backbone(name: str) -> str:
    """Return the name under which timm builds a network; a .py file is imported first.

    Raises InputError, with the nearest names, if there is no such network, or if the file defines none.
    """
    if name.endswith(".py"):
        path = Path(name)
        load_module(path, "network")
        if not timm.is_model(path.stem) or not is_own(path.stem):
            raise InputError(f"--backbone {name}: defines no @register_model def {path.stem}(...); see CONTRIBUTING.md")
        return path.stem
    base = name.split(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        raise InputError(f"--backbone {name}: no such network; nearest: {', '.join(near) or 'see timm.list_models()'}")
    return name


def is_own(name: str) -> bool:
    """Return whether a network is a file of this project or of the user, not timm's."""
    return not str(model_entrypoint(name.split(".")[0]).__module__).startswith("timm.")


def takes_head_widths(name: str) -> bool:
    """Return whether a network wants to know the number of classes of each head."""
    return "head_widths" in inspect.signature(model_entrypoint(name.split(".")[0])).parameters


def last_layer(model: nn.Module) -> set[str]:
    """Return the names of the last layer's tensors."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return {key for key in model.state_dict() if key.startswith(tuple(f"{name}." for name in names))}


def normalisation(model: nn.Module, channels: int = 3) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the channel mean and std, of RGB in [0, 1], that the backbone was trained with; their means for grey."""
    facts: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    both = facts.get("mean", (0.5, 0.5, 0.5)), facts.get("std", (0.25, 0.25, 0.25))
    mean, std = (tuple(values) if channels == 3 else (sum(values) / 3,) for values in both)
    return mean, std


def check_takes(model: nn.Module, backbone: str, shape: tuple[int, int, int], layout: HeadLayout) -> None:
    """Run one black image of (channels, height, width) through.

    Raises InputError if the network cannot take it, gives another number of outputs, or is built for other heads.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"--backbone {backbone}: takes no images of {shape[1]}x{shape[2]} ({str(error).splitlines()[0]})"
        ) from error
    finally:
        model.train(was_training)
    found = tuple(getattr(logits, "shape", ()))
    if found != (1, layout.num_outputs):
        raise InputError(
            f"--backbone {backbone}: gives {'x'.join(map(str, found)) or type(logits).__name__} for one image, the "
            f"competition's {len(layout.widths)} heads need 1x{layout.num_outputs}"
        )
    own = getattr(model, "head_widths", layout.widths)
    if tuple(own) != layout.widths:
        raise InputError(
            f"--backbone {backbone}: is built for heads of {', '.join(map(str, own))} classes, the competition has "
            f"{', '.join(map(str, layout.widths))}"
        )
