"""A checkpoint is loaded exactly as it was saved, or refused."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src.core.errors import InputError
from src.core.writing import sha256_of, write_with_checksum
from src.runs.checkpoint import load_model, load_state, save_model, save_state

STATE: dict[str, Any] = {"network": {"weight": torch.arange(6.0)}, "step": 3, "history": [{"epoch": 1, "loss": 0.5}]}


class RunsCode:
    """Unpickling this creates a file: a stand-in for any code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def flip_bit(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def test_a_state_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", STATE)
    loaded = load_state(tmp_path / "last.pt")
    assert torch.equal(loaded["network"]["weight"], STATE["network"]["weight"])
    assert (loaded["step"], loaded["history"]) == (3, STATE["history"])


@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.7, 1])
def test_a_flipped_bit_is_refused(tmp_path: Path, share: float) -> None:
    model = nn.Linear(3, 2)
    save_state(tmp_path / "last.pt", {"step": 2})
    save_state(tmp_path / "last.pt", STATE)
    save_model(tmp_path / "best.safetensors", model)
    flip_bit(tmp_path / "last.pt", share)
    assert load_state(tmp_path / "last.pt")["step"] == 2  # the previous checkpoint
    flip_bit(tmp_path / "previous_last.pt", share)
    flip_bit(tmp_path / "best.safetensors", share)
    with pytest.raises(InputError, match=r"last.pt: is damaged"):
        load_state(tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"best.safetensors: is damaged .*; train again"):
        load_model(tmp_path / "best.safetensors", model, "train again")


def test_a_file_without_its_checksum_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", STATE)
    (tmp_path / "last.pt.sha256").unlink()
    with pytest.raises(InputError, match="is damaged"):
        load_state(tmp_path / "last.pt")


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    origin = {"run": "0123", "fold": 0}
    save_state(tmp_path / "last.pt", {**STATE, **origin})
    assert load_state(tmp_path / "last.pt", origin)["step"] == 3
    for other in ({"run": "4567", "fold": 0}, {"run": "0123", "fold": 1}):
        with pytest.raises(InputError, match=r"last.pt: is damaged or of another training.*--restart"):
            load_state(tmp_path / "last.pt", other)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    created = tmp_path / "created"
    buffer = io.BytesIO()
    torch.save({"step": RunsCode(created)}, buffer)
    write_with_checksum(tmp_path / "last.pt", buffer.getvalue())
    with pytest.raises(InputError, match="holds more than tensors"):
        load_state(tmp_path / "last.pt")
    assert not created.exists()


def test_a_failed_save_keeps_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(path: Path, content: bytes) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    save_state(tmp_path / "last.pt", STATE)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", disk_full)
        with pytest.raises(OSError, match=r"No space left.*last\.pt"):
            save_state(tmp_path / "last.pt", {"step": 4})
    assert load_state(tmp_path / "last.pt")["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "last.pt.sha256"]


def kill_before_replacing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Interrupt just before a file gets its name."""
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)


@pytest.mark.parametrize("kills", [1, 2])
def test_a_kill_between_checksum_and_file_keeps_the_previous_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    save_state(tmp_path / "last.pt", STATE)
    with monkeypatch.context() as patch:
        kill_before_replacing(patch, "last.pt")
        for step in range(4, 4 + kills):
            with pytest.raises(KeyboardInterrupt):
                save_state(tmp_path / "last.pt", {"step": step})
    assert load_state(tmp_path / "last.pt")["step"] == 3
    save_state(tmp_path / "last.pt", {"step": 9})
    assert load_state(tmp_path / "last.pt")["step"] == 9


def test_weights_are_loaded_as_saved_and_refused_for_another_net(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_model(tmp_path / "last.safetensors", model)
    digest = sha256_of(tmp_path / "last.safetensors")
    loaded = load_model(tmp_path / "last.safetensors", other, "train again", digest)
    assert isinstance(loaded, nn.Linear)
    assert torch.equal(loaded.weight, model.weight)
    with pytest.raises(InputError, match=r"is not of the network in run.json"):
        load_model(tmp_path / "last.safetensors", nn.Linear(4, 2), "train again")
    with pytest.raises(InputError, match=r"best.safetensors: not there; train again"):
        load_model(tmp_path / "best.safetensors", model, "train again")
    save_model(tmp_path / "last.safetensors", nn.Linear(3, 2))  # undamaged, but of another training
    with pytest.raises(InputError, match=r"last.safetensors: is damaged, or of another training .*; train again"):
        load_model(tmp_path / "last.safetensors", other, "train again", digest)
