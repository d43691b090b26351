"""Checkpoints: a resumable last.pt of tensors and plain values, and weights as .safetensors, each with its SHA-256."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from src.core.errors import InputError
from src.core.writing import checksum_fits, write_with_checksum


def previous_of(path: Path) -> Path:
    """Return the path of the state saved before this one."""
    return path.with_name(f"previous_{path.name}")


def has_state(path: Path) -> bool:
    """Return whether `load_state` has a file to load."""
    return path.exists() or previous_of(path).exists()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save a resumable state atomically and keep the previous one; at every moment one of the two can be loaded."""
    buffer = io.BytesIO()  # torch's own error for a full disk says nothing
    torch.save(state, buffer)
    write_with_checksum(path, buffer.getbuffer(), previous_of(path))


def load_state(path: Path) -> dict[str, Any]:
    """Load a resumable state, or the previous one if a byte differs from what was saved.

    Raises InputError if both are damaged or hold more than tensors and plain values.
    """
    for file in (path, previous_of(path)):
        if not file.exists():
            continue
        if not checksum_fits(file):
            print(f"{file}: is damaged (its SHA-256 differs from what was saved)")
            continue
        if file != path:
            print(f"resuming from {file}, saved before")
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{file}: holds more than tensors and plain values, refused; train with --restart"
            ) from error
        return state
    raise InputError(f"{path}: is damaged, and so is the one saved before it; train with --restart")


def save_model(path: Path, model: nn.Module) -> None:
    """Save a network's weights."""
    state = {key: value.detach().contiguous().cpu().clone() for key, value in model.state_dict().items()}
    write_with_checksum(path, save(state))


def load_model(path: Path, model: nn.Module) -> nn.Module:
    """Load weights that `save_model` wrote. Raises InputError if they are missing, damaged or of another network."""
    if not path.is_file():
        raise InputError(f"{path}: not there; train this fold first")
    if not checksum_fits(path):
        raise InputError(f"{path}: is damaged (its SHA-256 differs from what was saved); train this fold again")
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: is not of the network in config.json ({str(error).splitlines()[0]})") from error
    return model
