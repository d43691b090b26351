"""Training one fold with the train command: repeated, interrupted, resumed, stopped early."""

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from src.competitions import svhn as street
from src.core import signals
from src.core.runtime import choose_compute
from src.data.loader import Batch, Loader
from src.inference import predictor as predicting
from src.inference.predictor import predict_probabilities
from src.runs.checkpoint import load_model
from src.runs.run import build_network
from src.training import fold as folding
from src.training import trainer as loop
from src.training.step import TrainState
from tests.fixtures import Finished, Podium, Train
from tests.helpers import run_at, snapshot_at, train_cache

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

    monkeypatch.setattr(signals, "TOGETHER", 0.0)  # seconds within which signals count as one
    at_call(monkeypatch, loop, "train_step", 2, twice)
    folder, ended = train("run")
    assert ended.code == 130
    assert not (folder / "last.pt").exists()


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


def test_resuming_with_changed_settings_is_refused_and_they_are_named(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at_call(patch, loop, "train_step", STEPS_PER_EPOCH + 1)
        folder, _ = train("run")
    before = (folder / "last.pt").read_bytes()
    _, ended = train("run", "--lr", 0.001, "--augment.rotate", 3)
    assert ended.code == 2
    assert "lr: 0.002 then, 0.001 now" in ended.err
    assert "augment.rotate: 10.0 then, 3.0 now" in ended.err
    assert "--restart" in ended.err
    assert (folder / "last.pt").read_bytes() == before


def test_a_finished_fold_is_not_trained_again(train: Train) -> None:
    folder, _ = train("run")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    _, ended = train("run")
    assert ended.code == 0
    assert "already trained" in ended.out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_restart_trains_from_scratch(train: Train) -> None:
    plain, _ = train("plain", "--lr", 0.01)
    folder, _ = train("run")
    _, ended = train("run", "--lr", 0.01, "--restart")
    assert ended.code == 0
    assert_same_training(plain, folder)


def test_resume_without_a_checkpoint_is_refused(train: Train) -> None:
    folder, ended = train("run", "--resume")
    assert ended.code == 2
    assert "holds no checkpoint" in ended.err


def test_training_resumes_from_the_previous_checkpoint_if_the_last_is_damaged(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = train("straight")
    with monkeypatch.context() as patch:
        stop_at_call(patch, loop, "train_step", STEPS_PER_EPOCH + 1)
        folder, _ = train("run")
    data = bytearray((folder / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "last.pt").write_bytes(data)
    _, ended = train("run")
    assert ended.code == 0
    assert "last.pt: is damaged" in ended.out
    assert "resumes after epoch 1, step 0" in ended.out
    assert_same_training(straight, folder)


def test_resuming_is_refused_if_both_checkpoints_are_damaged(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at_call(patch, loop, "train_step", STEPS_PER_EPOCH + 1)
        folder, _ = train("run")
    for name in ("last.pt", "previous_last.pt"):
        (folder / name).write_bytes(b"nothing")
    _, ended = train("run")
    assert ended.code == 2
    assert "train with --restart" in ended.err


def scripted_scores(patch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Make the epochs score this, and any later ones 0."""
    remaining: Iterator[float] = iter([*scores, *[0.0] * 10])
    patch.setattr(predicting, "score_of", lambda *_: next(remaining))
    patch.setattr(folding, "score_of", lambda *_: 0.0)


def test_early_stopping_ends_training_after_that_many_epochs_without_improvement(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_scores(monkeypatch, [0.2, 0.4, 0.3, 0.4, 0.9])
    folder, _ = train("run", "--epochs", 8, "--early-stopping", 2)
    assert [row["score"] for row in log_rows(folder)] == ["0.2", "0.4", "0.3", "0.4"]
    assert run_at(folder.parent).open_fold(0).result.epochs == 4


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_weights_make_the_out_of_fold_predictions(
    train: Train, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    scripted_scores(monkeypatch, [0.9, 0.1, 0.9])
    folder, _ = train("run", "--keep", keep, "--lr", 0.05)
    cache = train_cache(folder.parent)
    oof = arrays(folder)
    loader = Loader(
        images=cache.images,
        rows=cache.rows_of(oof["image_path"].tolist()),
        targets=np.zeros((len(oof["image_path"]), 0), np.int64),
        image_size=(32, 48),
        batch_size=5,
    )
    model = run_at(folder.parent).begun.model
    made = {}
    for name in ("best", "last"):
        network = load_model(folder / f"{name}.safetensors", build_network(model), "train again")
        made[name], _ = predict_probabilities(network, loader, street.COMPETITION.layout, choose_compute("cpu", "fp32"))
    other = {"best": "last", "last": "best"}[keep]
    np.testing.assert_allclose(made[keep], oof["probabilities"], atol=1e-5)
    assert abs(made[other] - oof["probabilities"]).max() > 1e-3


def test_the_best_weights_are_those_of_the_first_best_epoch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    logits: list[torch.Tensor] = []
    images = torch.randint(0, 256, (3, 32, 48, 3), dtype=torch.uint8)
    save = loop.Trainer.save

    def remember(trainer: loop.Trainer) -> None:
        kept.append({key: value.clone() for key, value in trainer.state.scored.state_dict().items()})
        logits.append(trainer.state.scored.eval()(images).detach())
        save(trainer)

    monkeypatch.setattr(loop.Trainer, "save", remember)
    scripted_scores(monkeypatch, [0.1, 0.5, 0.5])
    folder, _ = train("run")
    network = build_network(run_at(folder.parent).begun.model)
    for name, epoch in (("best", 2), ("last", 3)):
        for key, value in load_model(folder / f"{name}.safetensors", network, "").state_dict().items():
            assert torch.equal(value, kept[epoch - 1][key])
        # Rebuilt from the run directory alone, the network gives the same logits as during training.
        assert torch.allclose(network.eval()(images), logits[epoch - 1], atol=1e-5)


def test_a_non_finite_loss_is_an_error_and_nothing_is_saved(train: Train) -> None:
    folder, ended = train("run", "--lr", 1e9, "--clip-grad", "None", "--warmup", 0)
    assert ended.code == 2
    assert "use a smaller --lr" in ended.err
    assert not (folder / "oof.npz").exists()


def test_a_run_goes_on_with_its_own_folds_if_prepare_has_made_others(train: Train, podium: Podium) -> None:
    both, ended = train("both", "--fold", "all")
    assert ended.code == 0
    folder, _ = train("run")
    snapshot = run_at(folder.parent).begun.snapshot
    assert podium("prepare", "--num-folds", 3).code == 0
    for flags in (("--fold", 1), ("--fold", "all")):
        assert train("run", *flags)[1].code == 0
    run = run_at(folder.parent)
    assert (run.prepared.id, [fold.number for fold in run.trained()]) == (snapshot, [0, 1])
    for fold in ("fold0", "fold1"):
        assert_same_training(both.with_name(fold), folder.with_name(fold))
    _, ended = train("run", "--fold", 2)
    assert ended.code == 2
    assert "--fold 2: folds.csv has 0, 1" in ended.err
    new, _ = train("new", "--fold", 2)
    assert run_at(new.parent).prepared.fold_numbers("all") == [0, 1, 2]


def test_a_resumed_fold_and_its_run_keep_their_cache(train: Train, podium: Podium) -> None:
    folder, ended = train("run")
    assert ended.code == 0
    (folder / "oof.npz").unlink()
    before = (folder / "last.safetensors").read_bytes()
    assert podium("prepare", "--num-folds", 2, "--image-size", 40, 56).code == 0
    assert train("run")[1].code == 0
    assert (folder / "last.safetensors").read_bytes() == before
    assert train("run", "--fold", 1)[1].code == 0  # the run's other folds use the same cache
    assert run_at(folder.parent).begun.cache_size == (64, 128)
    other, _ = train("new")
    assert run_at(other.parent).begun.cache_size == (40, 56)


def test_resuming_needs_no_weights_file(train: Train, tmp_path: Path) -> None:
    first, _ = train("source")
    weights = tmp_path / "weights.safetensors"
    state = {key.removeprefix("backbone."): value for key, value in load_file(first / "last.safetensors").items()}
    save_file(state, weights)
    folder, ended = train("tuned", "--weights", weights)
    assert ended.code == 0
    (folder / "oof.npz").unlink()
    weights.unlink()
    _, again = train("tuned", "--weights", weights)
    assert again.code == 0
    assert (folder / "oof.npz").exists()


def test_a_run_goes_on_with_its_own_labels_and_refuses_edited_ones(
    train: Train, podium: Podium, tmp_path: Path
) -> None:
    assert train("run")[1].code == 0
    root, source = tmp_path / "runs" / "svhn", tmp_path / "input" / "svhn" / "mchar_train.json"
    old = snapshot_at(root)
    entries = json.loads(source.read_text())
    entries["000000.png"]["label"][0] = (entries["000000.png"]["label"][0] + 1) % 10
    source.write_text(json.dumps(entries))
    assert podium("prepare", "--num-folds", 2).code == 0
    assert snapshot_at(root) != old
    labels = old / "labels.csv"
    kept = labels.read_text()
    labels.write_text(kept.replace(",10,10,10,10,", ",1,10,10,10,", 1))
    _, ended = train("run", "--fold", 1)
    assert ended.code == 2
    assert f"{old.name}/labels.csv: was changed after prepare wrote it" in ended.err
    labels.write_text(kept)
    assert train("run", "--fold", 1)[1].code == 0
    assert run_at(root / "run").prepared.id == old.name
    assert train("run", "--fold", "all", "--restart")[1].code == 0
    assert run_at(root / "run").prepared.id == snapshot_at(root).name


def test_backbone_options_are_saved_and_fixed_for_the_run(train: Train) -> None:
    flags = ("--backbone", "resnet_cifar", "--backbone-options", "batch_norm=false")
    folder, ended = train("run", *flags)
    assert ended.code == 0
    assert run_at(folder.parent).begun.model.options == {"batch_norm": False}
    assert not any("running_mean" in key for key in load_file(folder / "last.safetensors"))
    _, again = train("run", "--backbone", "resnet_cifar")
    assert again.code == 2
    assert "backbone_options" in again.err


@pytest.mark.parametrize("flags", [("--seed", 4), ("--epochs", 2), ("--augment.rotate", 3), ("--image-size", 40, 56)])
def test_folds_of_one_run_are_not_trained_with_different_settings(train: Train, flags: tuple[object, ...]) -> None:
    folder, ended = train("run")
    assert ended.code == 0
    _, other = train("run", "--fold", 1, *flags)
    assert other.code == 2
    assert "was started with other settings" in other.err
    assert not folder.with_name("fold1").exists()
    assert train("run", "--fold", 1)[1].code == 0
    before = (folder / "last.safetensors").read_bytes()
    _, restarted = train("run", "--fold", 0, "--restart", *flags)  # would leave two kinds of folds
    assert restarted.code == 2
    assert (folder / "last.safetensors").read_bytes() == before
    assert train("run", "--fold", "all", "--restart", *flags)[1].code == 0
