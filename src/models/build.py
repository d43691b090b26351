"""A network from its name, with pretrained weights from the hub, from a file, or none."""

import ast
import json
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.models.contract import Backbone, check_takes, find_backbone, last_layer, own_code_error, pretrained_facts


class NoHubWeights(InputError):
    """A network's pretrained weights cannot be had from the hub."""


# Decided by the competition or by flags of their own, not by --backbone-options.
RESERVED_OPTIONS = {
    "num_classes", "head_widths", "in_chans", "img_size", "drop_rate", "drop_path_rate", "pretrained", "features_only",
    "scriptable", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "weights_file",
}  # fmt: skip


OURS = "backbone."  # before the names of a whole network's tensors


def read_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return a network's own options from texts such as "num_points=1". Raises InputError for any other form."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            options[name] = ast.literal_eval(value.capitalize() if value.lower() in ("true", "false") else value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            options[name] = value
        if not equals or not name.isidentifier() or not value:
            raise InputError(f"--backbone-options {text}: is not of the form name=value, such as batch_norm=False")
        try:
            options[name] = json.loads(json.dumps(options[name]))  # as run.json will have it: lists, no tuples
        except (TypeError, ValueError) as error:
            raise InputError(f"--backbone-options {text}: give a number, a text, a list or True or False") from error
    return options


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict of tensors from .safetensors, or from .pth/.pt without running any code in it."""
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # of pickle protocols: what is not read is refused below
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise InputError(
            f"--weights {path}: not a complete weights file ({(str(error) or 'empty').splitlines()[0]})"
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(f"--weights {path}: holds more than tensors, refused; convert it to .safetensors") from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"--weights {path}: not a table of named tensors")
    return state


@torch.no_grad()
def silence_last_layer(model: nn.Module) -> None:
    """Set a new last layer to zero: all classes are equally likely at first.

    With few classes timm draws it from a wide range (a first loss of 4 for 11 of them), and the gradients of its noise
    would damage pretrained features. Source: Kolesnikov et al., Big Transfer, 2020, who start the same way.
    """
    state = model.state_dict()
    for name in last_layer(model):
        state[name].zero_()


@torch.no_grad()
def draw_last_layer(model: nn.Module) -> None:
    """Draw the last layer if it is zero: a network whose answers are directions would not learn any from there."""
    state = model.state_dict()
    for name in last_layer(model):
        if state[name].ndim > 1 and not state[name].any():
            nn.init.normal_(state[name], std=state[name][0].numel() ** -0.5)


def load_weights(
    model: nn.Module, state: dict[str, torch.Tensor], source: str, size: tuple[int, int] | None = None
) -> None:
    """Load a backbone's weights, also those of a whole network of ours; a last layer of another width stays new.

    `size`: height and width of the images that they come from; by default those that timm knows for this network, or
    square ones. Raises InputError, which begins with `source`, if they do not fit.
    """
    own, last = model.state_dict(), last_layer(model)
    is_ours = all(key.startswith(OURS) and key not in own for key in state)
    if is_ours:
        state = {key.removeprefix(OURS): value for key, value in state.items()}
    first = f"{pretrained_facts(model).get('first_conv')}.weight"
    if first in state and first in own and own[first].shape[1] != state[first].shape[1] == 3:
        state[first] = adapt_input_conv(own[first].shape[1], state[first])  # grey images: the sum over colours
    if size or not is_ours:  # otherwise nobody knows the size
        state = _resampled(model, state, last, size)
    fitting = {key: value for key, value in state.items() if key not in last or own[key].shape == value.shape}
    wrong = [
        key for key, value in own.items() if key not in last and (key not in state or state[key].shape != value.shape)
    ]
    # old files lack the batch counters, which do not matter
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    unknown = [key for key in fitting if key not in own]
    if wrong or len(unknown) > len(last):
        example = (wrong or unknown)[0]
        raise InputError(
            f"{source}: do not fit this backbone: {len(wrong)} of {len(own)} tensors are missing or of another shape, "
            f"{len(unknown)} unknown (such as {example}); give the weights of the same timm model"
            + ("" if last else ", whose last layer is called head or named by pretrained_cfg['classifier']")
        )
    model.load_state_dict({key: value for key, value in fitting.items() if key in own}, strict=False)


def _resampled(
    model: nn.Module, state: dict[str, torch.Tensor], last: Collection[str], size: tuple[int, int] | None
) -> dict[str, torch.Tensor]:
    """Return weights of images of another size, such as a transformer's, as timm itself adapts them.

    What timm cannot adapt is returned as it is, and is found not to fit.
    """
    adapt, own = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None), model.state_dict()
    other = any(key in state and key not in last and state[key].shape != own[key].shape for key in own)
    grid: Any = getattr(model, "patch_embed", None)
    turned = size and "pos_embed" in state and getattr(grid, "img_size", size) != size  # perhaps of equal shape
    if adapt is None or not (other or turned):
        return state
    known = getattr(model, "pretrained_model_args", None) or {}
    model.pretrained_model_args = {"img_size": size} if size else known  # type: ignore[assignment]
    try:
        return dict(adapt(dict(state), model))
    except (AttributeError, KeyError, ValueError, RuntimeError, AssertionError):
        return state
    finally:
        model.pretrained_model_args = known  # type: ignore[assignment]


def build_model(
    backbone: str,
    layout: HeadLayout,
    image_size: tuple[int, int],
    in_chans: int = 3,
    extra: dict[str, Any] | None = None,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    dropout: float = 0.0,
    drop_path: float | None = None,
) -> nn.Module:
    """Return the network: (B, in_chans, H, W) float32 images to (B, layout.num_outputs) logits.

    `extra` are options of the network itself, such as num_points=1 for nin. Raises InputError for an unknown name,
    options that the backbone lacks, images or heads it cannot take, weights that do not fit.
    """
    for name in RESERVED_OPTIONS & set(extra or {}):
        raise InputError(f"--backbone-options {name}: is decided by the competition or by another flag; leave it out")
    found, num_outputs = find_backbone(backbone), layout.num_outputs
    options: dict[str, Any] = {"num_classes": num_outputs, "in_chans": in_chans, "drop_rate": dropout, **(extra or {})}
    if drop_path is not None:
        options["drop_path_rate"] = drop_path
    if found.takes_head_widths:
        options["head_widths"] = layout.widths
    if found.takes_weights_file:
        options["weights_file"], weights = weights, None
    hub = pretrained and weights is None and not found.is_own
    try:
        model = _create(found, hub, image_size, options)
    except InputError:
        raise
    except Exception as error:  # whatever a user's file raises is a mistake in it; ours and timm's pass through below
        raise _build_error(found, error) from error
    pretrained_outputs = pretrained_facts(model).get("num_classes")
    keeps_init = found.is_own and weights is None
    if not keeps_init and not (hub and num_outputs == pretrained_outputs):
        silence_last_layer(model)
    if weights is not None:
        load_weights(model, read_weights(weights), f"--weights {weights}")
    check_takes(model, backbone, (in_chans, *image_size), layout, found.file)
    return model


def _go_offline_unless_the_hub_answers() -> None:
    """Offline, the hub's client would retry for a minute before it uses its cache."""
    url = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        address = (url.hostname, url.port or (80 if url.scheme == "http" else 443))
        socket.create_connection(address, timeout=3).close()
    except OSError:
        # A proxy may reach what this machine cannot.
        huggingface_hub.constants.HF_HUB_OFFLINE = not any(getproxies().values())


def _build_error(backbone: Backbone, error: Exception) -> Exception:
    """Return what to raise if a network cannot be built: an InputError, unless the fault is not the user's."""
    name = backbone.file or backbone.name
    if isinstance(error, TypeError) and "unexpected" in str(error):
        return InputError(f"--backbone {name}: does not take these options: {error}")
    if backbone.file:
        return own_code_error(backbone.file, error)
    if isinstance(error, TypeError):
        return InputError(f"--backbone {name}: does not take these options: {error}")
    if isinstance(error, ValueError | AssertionError | KeyError | ZeroDivisionError | AttributeError):
        return InputError(f"--backbone {name}: {error or 'these options do not fit it'}")
    return error


def _entry(backbone: Backbone) -> Callable[..., nn.Module]:
    """Return the function that makes a network: a user's file is called directly, others through timm."""
    return backbone.entry if backbone.file else partial(timm.create_model, backbone.name)


def _create(backbone: Backbone, hub: bool, image_size: tuple[int, int], options: dict[str, Any]) -> nn.Module:
    if hub:
        _go_offline_unless_the_hub_answers()
    try:
        try:  # transformers need the image size, convolutional networks refuse the argument
            return _entry(backbone)(pretrained=hub, img_size=image_size, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return _entry(backbone)(pretrained=hub, **options)
    except (OSError, RuntimeError) as error:
        if not hub or "pretrained tag" in str(error):
            raise InputError(f"--backbone {backbone.name}: {error}") from error
        raise NoHubWeights(
            f"--backbone {backbone.name}: its pretrained weights cannot be downloaded from the hub "
            f"({type(error).__name__}); give a local file with --weights, or train from scratch with --no-pretrained"
        ) from error
