"""Training one fold with the train command: repeated, interrupted, resumed, stopped early."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.core import signals
from src.data.loader import Batch, Loader
from src.inference import predictor as predicting
from src.training import fold as folding
from src.training import trainer as loop
from src.training.step import TrainState
from tests.fixtures import Finished, Train
from tests.helpers import train_cache

STEPS_PER_EPOCH = 2  # 9 images in batches of 4; the last one comes in another epoch
MEASURED = {"seconds", "train_seconds", "images_per_second", "waiting_share", "memory_mib", "gpu_utilisation"}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "oof.npz") as kept:
        return dict(kept)


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as stream:
        return [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(stream)]


def assert_same_training(one: Path, other: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert log_rows(one) == log_rows(other)
    for key, value in arrays(one).items():
        assert np.array_equal(value, arrays(other)[key])


class Killed(BaseException):
    """Ends a command as kill -9 would: nothing handles it."""


def at_call(patch: pytest.MonkeyPatch, module: object, name: str, number: int, happens: Callable[[], None]) -> None:
    """Call `happens` in the `number`-th call (from 1) of a function."""
    original, calls = getattr(module, name), iter(range(1, 1000))

    def interrupted(*args: object, **options: object) -> object:
        if next(calls) == number:
            happens()
        return original(*args, **options)

    patch.setattr(module, name, interrupted)


def stop_at_call(patch: pytest.MonkeyPatch, module: object, name: str, number: int, kind: int = signal.SIGINT) -> None:
    """Send this process a signal in that call."""
    at_call(patch, module, name, number, lambda: os.kill(os.getpid(), kind))


def kill(*_: object) -> None:
    raise Killed


def test_the_same_seed_is_bit_identical_and_another_differs(train: Train) -> None:
    (one, ended), (same, _), (other, _) = train("one"), train("same"), train("other", "--seed", 1)
    assert ended.code == 0
    assert_same_training(one, same)
    assert (one / "last.safetensors").read_bytes() != (other / "last.safetensors").read_bytes()
    assert [row["loss"] for row in log_rows(one)] != [row["loss"] for row in log_rows(other)]


def at_the_end_of_an_epoch(patch: pytest.MonkeyPatch, kind: int) -> None:
    """Send a signal after the last step of the first epoch, while its loader ends."""
    original = Loader.epoch

    def ending(loader: Loader, *args: int) -> Iterator[Batch]:
        yield from original(loader, *args)
        os.kill(os.getpid(), kind)

    patch.setattr(Loader, "epoch", ending)


STOPS: dict[str, tuple[object, str, int, str]] = {
    "in the first step": (loop, "train_step", 1, "resumes after epoch 0, step 1"),
    "in the third step": (loop, "train_step", STEPS_PER_EPOCH + 1, "resumes after epoch 1, step 1"),
    "while an epoch is scored": (predicting, "score_of", 2, "resumes after epoch 1, step 2"),
    "while the best weights are saved": (loop, "save_model", 1, "resumes after epoch 1, step 0"),
    "while an epoch is saved": (loop, "save_state", 2, "resumes after epoch 2, step 0"),
    "after the last epoch": (folding, "write_arrays", 1, "resumes after epoch 3, step 0"),
}


@pytest.mark.parametrize("moment", [*STOPS, "at the end of an epoch"])
def test_a_training_stopped_by_a_signal_loses_no_step_and_gives_the_same_result(
    train: Train, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    straight, ended = train("straight")
    assert ended.code == 0
    kind, message = signal.SIGTERM, "resumes after epoch 0, step 2"
    with monkeypatch.context() as patch:
        if moment in STOPS:
            module, name, number, message = STOPS[moment]
            stop_at_call(patch, module, name, number, kind)
        else:
            at_the_end_of_an_epoch(patch, kind)
        folder, ended = train("stopped")
    assert ended.code == 128 + kind
    assert "run the same command again" in ended.err
    assert not (folder / "oof.npz").exists()
    folder, ended = train("stopped", "--resume", "--num-threads", 2)
    assert ended.code == 0
    assert message in ended.out
    assert_same_training(straight, folder)


def test_a_training_stopped_after_every_step_gives_the_same_result(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = train("straight")
    for _ in range(3 * STEPS_PER_EPOCH):
        with monkeypatch.context() as patch:
            stop_at_call(patch, loop, "train_step", 1)
            assert train("stopped")[1].code == 130
    folder, ended = train("stopped")
    assert ended.code == 0
    assert_same_training(straight, folder)


def test_a_signal_takes_effect_after_the_current_step(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at_call(patch, loop, "train_step", STEPS_PER_EPOCH + 1)
        folder, _ = train("run")
    _, ended = train("run")
    assert "resumes after epoch 1, step 1" in ended.out


def test_a_second_signal_stops_immediately(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not stopped")

    monkeypatch.setattr(signals, "TOGETHER", 0)  # otherwise two at once are one request
    at_call(monkeypatch, loop, "train_step", 2, twice)
    folder, ended = train("run")
    assert ended.code == 130
    assert not (folder / "last.pt").exists()


def test_a_training_killed_in_its_first_save_starts_again(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, _ = train("straight")
    with monkeypatch.context() as patch:
        at_call(patch, loop, "save_state", 1, kill)
        with pytest.raises(Killed):
            train("killed")
    folder, ended = train("killed")
    assert ended.code == 0
    assert_same_training(straight, folder)


@pytest.mark.parametrize("save_every", [0, 10])
@pytest.mark.parametrize("call", [(loop, "train_step", 4), (loop, "save_state", 2), (loop, "save_model", 2)])
def test_a_training_killed_anywhere_gives_the_same_result(
    train: Train, monkeypatch: pytest.MonkeyPatch, call: tuple[object, str, int], save_every: float
) -> None:
    straight, _ = train("straight")
    with monkeypatch.context() as patch:
        at_call(patch, *call, kill)
        with pytest.raises(Killed):
            train("killed", "--save-every", save_every)
    folder, ended = train("killed")
    assert ended.code == 0
    if call[1] == "train_step":  # the fourth step, the second of the second epoch
        assert f"resumes after epoch 1, step {1 if save_every == 0 else 0}" in ended.out
    assert_same_training(straight, folder)


def test_two_commands_cannot_train_the_same_fold(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    second: list[Finished] = []
    with monkeypatch.context() as patch:
        at_call(patch, loop, "train_step", 2, lambda: second.append(train("run")[1]))
        _, ended = train("run")
    assert ended.code == 0
    assert second[0].code == 2
    assert f"process {os.getpid()} is training fold0; wait for it" in second[0].err


def test_no_val_image_is_trained_on(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    step = loop.train_step

    def watched(state: TrainState, batch: Batch, *args: Any) -> torch.Tensor:
        seen.update(batch["index"].tolist())
        return step(state, batch, *args)

    monkeypatch.setattr(loop, "train_step", watched)
    folder, _ = train("run", "--epochs", 6)
    cache = train_cache(folder.parent)
    val = set(arrays(folder)["image_path"].tolist())
    trained_on = {cache.image_paths[row] for row in seen}
    assert not trained_on & val
    assert trained_on | val == set(cache.image_paths)


def test_the_number_of_threads_does_not_change_the_training(train: Train) -> None:
    assert_same_training(train("none", "--num-threads", 0)[0], train("three", "--num-threads", 3)[0])


def test_a_non_finite_loss_is_an_error_and_nothing_is_saved(train: Train) -> None:
    folder, ended = train("run", "--lr", 1e9, "--clip-grad", "None", "--warmup", 0)
    assert ended.code == 2
    assert "use a smaller --lr" in ended.err
    assert not (folder / "oof.npz").exists()
