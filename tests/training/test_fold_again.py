"""A fold that is trained again, resumed or continued: what it keeps, what it refuses."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from src.training import trainer as loop
from tests.fixtures import Podium, Train
from tests.helpers import run_at, snapshot_at
from tests.training.test_fold import STEPS_PER_EPOCH, assert_same_training, stop_at_call


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


def test_a_run_goes_on_with_its_own_folds_if_prepare_has_made_others(train: Train, podium: Podium) -> None:
    both, ended = train("both", "--fold", "all")
    assert ended.code == 0
    folder, _ = train("run")
    snapshot = run_at(folder.parent).started_record.snapshot
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
    assert run_at(folder.parent).started_record.cache_size == (64, 128)
    other, _ = train("new")
    assert run_at(other.parent).started_record.cache_size == (40, 56)


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
    assert run_at(folder.parent).started_record.model.options == {"batch_norm": False}
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
