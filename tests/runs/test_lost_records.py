"""Lost records, odd copies, changed competitions and concurrent starts: nothing is deleted or mixed in silence."""

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

from src.core.errors import InputError
from src.core.locking import locked
from src.data import cache as caching
from src.data import shelf
from src.training import fold as folds
from tests.helpers import prepared_at, run_at, snapshot_at
from tests.world import FLAGS, PREPARE, done, fold_of, link, refused, run_command

NETWORK = """
from timm.models import register_model
from torch import nn


@register_model
def mine(pretrained=False, **kwargs):
    network = nn.Sequential(nn.Conv2d(kwargs["in_chans"], 8, 5, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.add_module("head", nn.Linear(8, kwargs["num_classes"]))
    return network
"""


def named_command(message: str) -> list[str]:
    """Return the flags of the training that a message names."""
    words = message.split("run python -m src.")[1].split(", ")[0].split(" again")[0]
    return shlex.split(words)


def test_restarting_one_fold_keeps_its_runs_cache_and_the_other_folds(world: Path) -> None:
    done(world, "prepare", *PREPARE, "--image-size", 32, 48)
    done(world, "train", *FLAGS, "--fold", 0, "--restart")
    run = run_at(fold_of(world).parent)
    assert run.started_record.cache_size == (64, 128)
    assert [fold.number for fold in run.trained()] == [0, 1]


def test_weights_without_their_record_are_not_deleted(world: Path) -> None:
    (fold_of(world).parent / "run.json").unlink()
    for number in (0, 1):
        (fold_of(world, number) / "fold.json").unlink()
    kept = (fold_of(world) / "last.safetensors").read_bytes()
    refused(run_command(world, "train", *FLAGS, "--seed", 5), "fold0/last.pt: was trained, but", "use --restart")
    assert (fold_of(world) / "last.safetensors").read_bytes() == kept
    done(world, "train", *FLAGS, "--seed", 5, "--restart")


def test_a_lost_record_and_checkpoint_are_refused_too(world: Path) -> None:
    for name in ("fold.json", "last.pt", "previous_last.pt"):
        (fold_of(world) / name).unlink(missing_ok=True)
    refused(run_command(world, "train", *FLAGS), "fold0/last.safetensors: was trained, but")


def test_a_linear_probe_whose_record_is_lost_is_trained_again(world: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    save_file(network.state_dict(), world / "weights.safetensors")
    flags = ("--competition", "svhn", "--backbone", "test_resnet", "--weights", "weights.safetensors", "--epochs", 2,
             "--freeze-backbone", "--run-name", "probe", "--fold", 0, "--batch-size", 4)  # fmt: skip
    done(world, "train", *flags)
    kept = (fold_of(world, 0, "probe") / "last.safetensors").read_bytes()
    (fold_of(world, 0, "probe") / "fold.json").unlink()
    done(world, "train", *flags)
    assert (fold_of(world, 0, "probe") / "last.safetensors").read_bytes() == kept


def test_a_network_file_with_windows_line_ends_can_be_used(world: Path) -> None:
    (world / "nets").mkdir()
    (world / "nets" / "mine.py").write_bytes(NETWORK.replace("\n", "\r\n").encode())
    flags = (*FLAGS, "--backbone", "nets/mine.py", "--run-name", "own", "--mixup", 0)
    done(world, "train", *flags, "--fold", 0)
    ended = run_command(world, "evaluate", "--run-name", "own")
    refused(ended, "--backbone nets/mine.py")
    done(world, *named_command(ended.err))
    (world / "nets" / "mine.py").unlink()
    shutil.rmtree(fold_of(world, 1, "own"))
    done(world, "train", *flags)  # with the run's own copy
    done(world, "evaluate", "--run-name", "own")


def test_messages_name_the_flags_as_they_were_given(world: Path) -> None:
    flags = (*FLAGS, "--clip-grad", None, "--augment.rotate", 3, "--no-pretrained", "--run-name", "odd")
    done(world, "train", *flags, "--fold", 0)
    ended = run_command(world, "evaluate", "--run-name", "odd")
    refused(ended, "--clip-grad None", "--augment.rotate 3.0")
    done(world, *named_command(ended.err))
    done(world, "evaluate", "--run-name", "odd")


@pytest.mark.parametrize("flags", [("--lr", -1), ("--seed", 9)], ids=str)
def test_an_interrupted_restart_survives_other_flags(
    world: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[object, ...]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("src.training.restart.publish", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_command(world, "train", *FLAGS, "--seed", 4, "--restart")
    refused(run_command(world, "train", *FLAGS, "--seed", 4, "--restart", *flags))
    assert (fold_of(world).parent / "restart" / "fold0" / "oof.npz").exists()


def test_images_resized_in_another_way_have_caches_of_their_own(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = world / "runs" / "svhn"
    before = snapshot_at(root)
    intact = prepared_at(root).cache_file("train", (64, 128)).read_bytes()
    monkeypatch.setattr(caching, "POLICY", caching.POLICY + 1)
    done(world, "prepare", *PREPARE)
    assert snapshot_at(root) != before
    assert run_at(root / "baseline").prepared.cache_file("train", (64, 128)).read_bytes() == intact


def test_a_changed_competition_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.competitions import svhn

    monkeypatch.setattr(svhn, "COMPETITION", replace(svhn.COMPETITION, hflip_ok=True))
    for command in (("evaluate",), ("predict",), ("train", *FLAGS)):
        refused(run_command(world, *command), "hflip_ok of 'svhn' was False when this run began and is True now")


def test_a_lock_of_another_user_holds(tmp_path: Path) -> None:
    path = tmp_path / ".folder.lock"
    path.write_text("77\n")
    path.chmod(0o444)
    script = f"import fcntl; f = open({str(path)!r}); fcntl.flock(f, 2); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match="process 77 is testing; wait for it"),
            locked(tmp_path / "folder", "is testing"),
        ):
            pass
        other.communicate("\n")
    with open(path) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_fold_that_another_process_finished_meanwhile_is_not_trained_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(world, "train", *FLAGS, "--run-name", "new", "--fold", 0)
    record = (fold_of(world, 0, "new").parent / "run.json").rename(world / "aside")
    aside = fold_of(world, 0, "new").rename(world / "aside-fold")

    @contextmanager
    def late(folder: Path, what: str) -> Iterator[None]:
        with locked(folder, what):
            record.rename(fold_of(world, 0, "new").parent / "run.json")
            aside.rename(fold_of(world, 0, "new"))
            yield

    monkeypatch.setattr(folds, "locked", late)
    ended = done(world, "train", *FLAGS, "--run-name", "new", "--fold", 0)
    assert "already trained" in ended.out


def test_prune_brings_a_snapshot_back_that_a_run_began_with_meanwhile(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world / "runs" / "svhn"
    done(world, "prepare", *PREPARE[:2], "--num-folds", 3)
    unused = snapshot_at(root)
    done(world, "prepare", *PREPARE)
    real, asked = shelf._uses, []

    def uses(folder: Path) -> dict[str, list[str]]:
        asked.append(folder)
        return real(folder) | ({unused.name: ["late"]} if len(asked) > 1 else {})

    monkeypatch.setattr(shelf, "_uses", uses)
    done(world, "prepare", "--prune")
    assert (unused / "snapshot.json").exists()


def test_a_backup_of_hard_links_is_not_changed(world: Path) -> None:
    (world / "mine.py").write_text(NETWORK)
    flags = (*FLAGS, "--backbone", "mine.py", "--run-name", "own", "--mixup", 0)
    done(world, "train", *flags)
    link(world / "runs" / "svhn" / "own", world / "backup")
    (world / "mine.py").unlink()
    (world / "mine.py").write_text(NETWORK + "\n# edited\n")
    done(world, "train", *flags, "--restart")
    assert (world / "backup" / "mine.py").read_text() == NETWORK
    assert "edited" in (world / "runs/svhn/own/mine.py").read_text()


def test_weights_that_come_out_differently_are_accepted_with_their_new_hash(world: Path) -> None:
    import torch

    from src.runs.checkpoint import load_state, save_state

    state = load_state(fold_of(world) / "last.pt")
    name = next(iter(state["network"]))
    for part in ("network", "ema"):
        if state[part]:
            key = next(key for key in state[part] if key.endswith(name))
            state[part][key] = state[part][key] + 1e-6 * torch.ones_like(state[part][key])
    save_state(fold_of(world) / "last.pt", state)
    (fold_of(world) / "last.safetensors").unlink()
    done(world, "train", *FLAGS)
    done(world, "evaluate")
    done(world, "predict")


def test_a_folder_that_only_looks_like_a_fold_is_ignored(world: Path) -> None:
    shutil.copytree(fold_of(world), fold_of(world).with_name("fold00"))
    before = (world / "submissions/svhn/baseline.csv").read_bytes()
    done(world, "evaluate")
    done(world, "predict")
    assert (world / "submissions/svhn/baseline.csv").read_bytes() == before


def test_every_flipped_bit_of_kept_predictions_is_harmless(world: Path) -> None:
    path, expected = fold_of(world) / "test.npz", (world / "submissions/svhn/baseline.npz").read_bytes()
    intact, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(intact), 12):
        data = bytearray(intact)
        data[place] ^= 1 << int(rng.integers(8))
        path.unlink()
        path.write_bytes(data)
        done(world, "predict")
        assert (world / "submissions/svhn/baseline.npz").read_bytes() == expected


def test_evaluate_writes_nothing_without_the_image_cache(world: Path) -> None:
    evaluation = fold_of(world).parent / "evaluation"
    before = {path.name: path.read_bytes() for path in evaluation.iterdir()}
    prepared_at(world / "runs" / "svhn").cache_file("train", (64, 128)).unlink()
    refused(run_command(world, "evaluate", "--no-tta"), "run python -m src.prepare")
    assert {path.name: path.read_bytes() for path in evaluation.iterdir()} == before


def test_a_restart_that_lost_its_record_says_what_to_delete(world: Path) -> None:
    staged = fold_of(world).parent / "restart"
    staged.mkdir()
    (staged / "complete").write_text("")
    refused(run_command(world, "train", *FLAGS), "restart: has lost its run.json; delete this folder")
    assert json.loads((fold_of(world).parent / "run.json").read_text())
    assert os.listdir(staged) == ["complete"]
