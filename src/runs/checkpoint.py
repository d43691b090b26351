"""Checkpoints: a resumable last.pt of tensors and plain values, and weights as .safetensors, each with its SHA-256."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
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


def load_state(path: Path, origin: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load a resumable state, or the previous one if a byte differs from what was saved.

    `origin` holds values that a state of this fold has. Raises InputError if neither can be used: damaged, of another
    run or fold, or of more than tensors and plain values.
    """
    for file in (path, previous_of(path)):
        if not file.exists():
            continue
        if not checksum_fits(file):
            print(f"{file}: is damaged (its SHA-256 differs from what was saved)")
            continue
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{file}: holds more than tensors and plain values, refused; train with --restart"
            ) from error
        other = [f"{name} {state.get(name)}" for name, value in (origin or {}).items() if state.get(name) != value]
        if other:
            print(f"{file}: belongs to another training ({', '.join(other)})")
            continue
        if file != path:
            print(f"resuming from {file}, saved before")
        return state
    raise InputError(
        f"{path}: is damaged or of another training, and so is the one saved before it; put the right one back, or "
        "train with --restart"
    )


def save_model(path: Path, model: nn.Module) -> None:
    """Save a network's weights."""
    state = {key: value.detach().contiguous().cpu().clone() for key, value in model.state_dict().items()}
    write_with_checksum(path, safetensors.torch.save(state))


def load_model(path: Path, model: nn.Module, repair: str, expected: str | None = None) -> nn.Module:
    """Load weights that `save_model` wrote; `expected` is their SHA-256, if a record has it.

    Raises InputError, saying how to `repair` it, if the file is missing, damaged or of another network.
    """
    if not path.is_file():
        raise InputError(f"{path}: not there; {repair}")
    if expected is None and not checksum_fits(path):
        raise InputError(f"{path}: is damaged (its SHA-256 differs from what was saved); {repair}")
    data = path.read_bytes()
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise InputError(
            f"{path}: is damaged, or of another training (its SHA-256 is not the one in fold.json); {repair}"
        )
    try:
        model.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: is not of the network in run.json ({str(error).splitlines()[0]})") from error
    return model
