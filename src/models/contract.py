"""Which networks there are, and what a network of one's own must be.

A network file, under src/models/ or anywhere as `--backbone path/to/mine.py`, defines a function of the file's name:

    @register_model  # from timm.models
    def mine(pretrained: bool = False, **kwargs: Any) -> nn.Module: ...

- kwargs hold num_classes, in_chans, drop_rate, img_size (unless refused) and what --backbone-options and --drop-path
  give. A parameter called `head_widths` receives the number of classes of each head, one called `weights_file` the
  path of --weights, which the network then reads itself; each run keeps a copy of that file. (timm adds
  pretrained_cfg and pretrained_cfg_overlay for networks under src/models/: `own_options` drops them.)
- The network turns (B, in_chans, H, W) float32, normalised RGB, into logits (B, num_classes), all heads side by side.
- Its last layer is called `head`, or `pretrained_cfg["classifier"]` names it: `--weights` leaves it new for other
  classes.
- For --freeze-backbone, auxiliary heads, --loss simsiam, byol and rotation it has timm's forward_features,
  forward_head (with pre_logits) and get_classifier; for --loss masked the first.
- `pretrained_cfg["mean"]` and `["std"]` (of RGB in [0, 1]) normalise its images; without them 0.5 and 0.25.
"""

import difflib
import inspect
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import model_entrypoint
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.core.modules import load_module


class Backbone(NamedTuple):
    """A network that can be built: timm's, one of src/models/, or a file of the user's."""

    name: str
    entry: Callable[..., nn.Module]
    file: Path | None = None  # of the user's

    @property
    def is_own(self) -> bool:
        """Whether it is a file of this project or of the user, not timm's."""
        return not str(self.entry.__module__).startswith("timm.")

    @property
    def is_ours(self) -> bool:
        """Whether it is one of src/models/, which have no pretrained weights."""
        return self.is_own and self.file is None

    @property
    def takes_head_widths(self) -> bool:
        return "head_widths" in inspect.signature(self.entry).parameters

    @property
    def takes_weights_file(self) -> bool:
        """Whether it is built from --weights, not only filled with it."""
        return "weights_file" in inspect.signature(self.entry).parameters


def find_backbone(name: str) -> Backbone:
    """Return the network of that name; a .py file is imported.

    Two files of one name may be in use in one process (a run keeps a copy), so a file's function is taken from its own
    module, not from timm's registry. Raises InputError, with the nearest names, if the network does not exist.
    """
    if name.endswith(".py"):
        path = Path(name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Overwriting")  # a file of the same name was registered before
            module = load_module(path, "network")
        entry = getattr(module, path.stem, None)
        if not callable(entry) or getattr(entry, "__module__", "") != module.__name__ or not timm.is_model(path.stem):
            raise InputError(f"--backbone {name}: defines no @register_model def {path.stem}(...); see CONTRIBUTING.md")
        return Backbone(path.stem, entry, path)
    base = name.split(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        raise InputError(f"--backbone {name}: no such network; nearest: {', '.join(near) or 'see timm.list_models()'}")
    return Backbone(name, model_entrypoint(base))


def begins_at_random(name: str, pretrained: bool, weights: Path | None) -> bool:
    """Return whether a network has no pretrained weights; a file of the user's own may load some."""
    return weights is None and (not pretrained or (not name.endswith(".py") and find_backbone(name).is_ours))


def own_code_error(path: Path, error: Exception) -> InputError:
    """Return an InputError that names the line of the user's network file at which its code failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == path.name]
    line = f", line {frames[-1].lineno}" if frames else ""
    return InputError(f"--backbone {path}{line}: {type(error).__name__}: {error}")


def pretrained_facts(model: nn.Module) -> dict[str, Any]:
    """Return timm's pretrained_cfg of a network, empty if it has none."""
    return getattr(model, "pretrained_cfg", None) or {}


def last_layer(model: nn.Module) -> set[str]:
    """Return the names of the last layer's tensors."""
    classifier = pretrained_facts(model).get("classifier") or "head"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return {key for key in model.state_dict() if key.startswith(tuple(f"{name}." for name in names))}


def linear_last_layer(model: nn.Module, flag: str) -> nn.Linear:
    """Return the last layer of a timm network, if it is a linear one on its features. Raises InputError."""
    hidden: Any = model
    if not all(hasattr(model, name) for name in ("get_classifier", "forward_features", "forward_head")):
        raise InputError(f"{flag}: {type(model).__name__} has no forward_features and forward_head")
    if "pre_logits" not in inspect.signature(hidden.forward_head).parameters:
        raise InputError(f"{flag}: forward_head of {type(model).__name__} takes no pre_logits")
    layer = hidden.get_classifier()
    if not isinstance(layer, nn.Linear):
        raise InputError(f"{flag}: {type(model).__name__} does not end in one linear layer")
    return layer


def normalisation(model: nn.Module, channels: int = 3) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the channel mean and std, of RGB in [0, 1], that the backbone was trained with; their means for grey.

    Raises InputError if there is not one value for each channel.
    """
    facts, found = pretrained_facts(model), []
    for name, default in (("mean", 0.5), ("std", 0.25)):
        values = facts.get(name, (default,) * 3)
        values = tuple(values) if isinstance(values, tuple | list) else (values,)
        if channels == 1 and len(values) == 3:
            values = (sum(values) / 3,)
        if len(values) != channels:
            raise InputError(f"the network's pretrained_cfg[{name!r}] has {len(values)} values for {channels} channels")
        found.append(values)
    return found[0], found[1]


def check_takes(
    model: nn.Module, backbone: str, shape: tuple[int, int, int], layout: HeadLayout, file: Path | None = None
) -> None:
    """Run one black image of (channels, height, width) through.

    Raises InputError if the network cannot take it, gives another number of outputs, or is built for other heads.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"--backbone {backbone}: takes no images of {shape[1]}x{shape[2]} ({why})") from error
    except Exception as error:  # whatever a user's file raises is a mistake in it
        if file is None:
            raise
        raise own_code_error(file, error) from error
    finally:
        model.train(was_training)
    found = tuple(getattr(logits, "shape", ()))
    if found != (1, layout.num_outputs):
        raise InputError(
            f"--backbone {backbone}: gives {'x'.join(map(str, found)) or type(logits).__name__} for one image, the "
            f"competition's {len(layout.widths)} heads need 1x{layout.num_outputs}"
        )
    own = getattr(model, "head_widths", None)
    if isinstance(own, tuple | list) and tuple(own) != layout.widths:
        raise InputError(
            f"--backbone {backbone}: is built for heads of {', '.join(map(str, own))} classes, the competition has "
            f"{', '.join(map(str, layout.widths))}"
        )
