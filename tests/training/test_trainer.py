"""The training loop through the train command: out of memory, --deterministic, the columns of log.csv."""

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from src.core.signals import Stopped
from src.models.network import Network
from src.runs.checkpoint import load_state
from src.training import trainer as loop
from tests.fixtures import Train

OUT_OF_MEMORY = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes"),
}


@pytest.fixture
def restore_algorithms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what --deterministic sets for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    yield
    torch.use_deterministic_algorithms(False)


def refuse(patch: pytest.MonkeyPatch, limit: int, error: Exception) -> None:
    """Make every network fail to train on more than `limit` images per batch."""
    forward = Network.forward

    def refusing(network: Network, images: torch.Tensor) -> torch.Tensor:
        if network.training and len(images) > limit:
            raise error
        return forward(network, images)

    patch.setattr(Network, "forward", refusing)


def stop_after_an_epoch(patch: pytest.MonkeyPatch) -> None:
    """Stop as Ctrl-C does when the next epoch has been saved."""
    save = loop.Trainer.save

    def save_and_stop(trainer: loop.Trainer) -> None:
        save(trainer)
        raise Stopped(signal.SIGINT)

    patch.setattr(loop.Trainer, "save", save_and_stop)


def log(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "log.csv")


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_halves_micro_batches_also_after_resuming(
    train: Train, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with monkeypatch.context() as patch:
        refuse(patch, 2, OUT_OF_MEMORY[kind])
        stop_after_an_epoch(patch)
        _, ended = train("run")
    assert ended.code == 130
    assert ended.out.count("out of memory: 2 images at once from now on, 2 times per step; the batch stays 4") == 1
    folder, ended = train("run")  # memory suffices now, but the size found is kept
    assert ended.code == 0
    assert "out of memory" not in ended.out
    assert log(folder)["micro_batch"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_too_little_memory_for_two_images_is_an_error_without_a_traceback(
    train: Train, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    refuse(monkeypatch, 1, OUT_OF_MEMORY[kind])
    folder, ended = train("run")
    assert ended.code == 2
    assert "batches are split as far as possible" in ended.err
    assert not (folder / "last.pt").exists()


def test_log_csv_has_micro_batch_memory_and_utilisation(train: Train) -> None:
    for flags, micro_batch in (((), 4), (("--accumulate", 2), 2)):
        folder, ended = train(f"run{micro_batch}", *flags)
        assert ended.code == 0
        rows = log(folder)
        assert rows["micro_batch"].tolist() == [micro_batch] * 3
        assert (rows["memory_mib"] > 0).all()
        assert rows["gpu_utilisation"].between(0, 1).all()


def test_a_checkpoint_of_another_network_is_one_line(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        train("run")
    monkeypatch.setattr("src.training.setup.build_model", lambda name, *_, **__: torch.nn.Linear(2, 3))
    _, ended = train("run", "--resume")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "fold0/last.pt: is not of the network that is built now" in ended.err


def test_images_per_second_count_the_images_that_there_are(train: Train) -> None:
    rates = [log(train(f"run{size}", "--batch-size", size)[0])["images_per_second"] for size in (4, 400)]
    steps = [log(train(f"run{size}")[0])["train_seconds"] for size in (4, 400)]
    assert (rates[0] * steps[0]).round().tolist() == [8] * 3
    assert (rates[1] * steps[1]).round().tolist() == [9] * 3


def test_deterministic_runs_of_any_name_print_the_same_sha256(train: Train, restore_algorithms: None) -> None:
    printed = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        folder, ended = train(name, "--deterministic", "--seed", seed)
        assert ended.code == 0
        printed[name] = [line for line in ended.out.splitlines() if "SHA-256 of the weights" in line]
        digest = hashlib.sha256((folder / "last.safetensors").read_bytes()).hexdigest()
        assert json.loads((folder / "fold.json").read_text())["result"]["weights_sha256"] == digest
        assert printed[name] == [f"fold 0: SHA-256 of the weights {digest[:16]}"]
    assert printed["one"] == printed["same"] != printed["other"]
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
def test_resuming_in_half_precision_restores_the_scaler(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    # A net without pooling, whose backward pass would have no fixed order.
    flags = ("--device", "cuda", "--precision", "fp16", "--backbone", "resnet_cifar", "--accumulate", 2)
    straight, ended = train("straight", *flags)
    assert ended.code == 0
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        assert train("stopped", *flags)[1].code == 130
    stopped, ended = train("stopped", *flags, "--resume")
    assert ended.code == 0
    states = [load_state(folder / "last.pt") for folder in (straight, stopped)]
    assert states[0]["scaler"] == states[1]["scaler"]
    assert states[0]["scaler"]["scale"] > 0
    assert states[0]["step"] == states[1]["step"] == 6
    one, other = (load_file(folder / "last.safetensors") for folder in (straight, stopped))
    for key, value in one.items():
        assert torch.allclose(value.float(), other[key].float(), atol=1e-4), key
    for folder in (straight, stopped):
        assert log(folder)["micro_batch"].tolist() == [2, 2, 2]
        assert (log(folder)["memory_mib"] > 0).all()


def test_a_cache_larger_than_memory_is_read_in_blocks(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.training.loading.memory_limit", lambda: 1000)
    _, ended = train("blocks")
    assert ended.code == 0, ended.err
    assert "larger than the memory: images are shuffled in blocks" in ended.out
