"""--start-from: each fold begins with another run's weights of that fold, which saw nothing that it holds out."""

import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.config import TrainConfig
from src.core.errors import InputError
from src.training.starting import check_start
from tests.helpers import run_at
from tests.world import FLAGS, done, fold_of, refused, run_command

# Weights that stay what they began with, but for batch norm's averages.
STILL = (*FLAGS, "--run-name", "tuned", "--start-from", "baseline", "--epochs", 1, "--lr", 1e-9, "--ema", 0)


def learnt(world: Path, run: str, number: int) -> dict[str, torch.Tensor]:
    """Return the weights of a fold that an optimizer changes."""
    state = load_file(fold_of(world, number, run) / "last.safetensors")
    return {name: value for name, value in state.items() if "running" not in name and "num_batches" not in name}


def test_each_fold_begins_with_the_weights_of_the_same_fold(world: Path) -> None:
    ended = done(world, "train", *STILL)
    for number in (0, 1):
        assert f"fold {number}: starts from fold {number} of baseline, score " in ended.out
        tuned, same, other = (learnt(world, *which) for which in
                              (("tuned", number), ("baseline", number), ("baseline", 1 - number)))  # fmt: skip
        assert all(torch.allclose(tuned[name], same[name], atol=1e-6) for name in same)  # the last layer too
        assert not any(torch.allclose(tuned[name], other[name], atol=1e-6) for name in same if same[name].std() > 0)


def test_it_is_repaired_without_the_run_that_it_began_with(world: Path) -> None:
    done(world, "train", *STILL)
    command = shlex.split(run_at(world / "runs/svhn/tuned").train_command(0))
    assert command[command.index("--start-from") + 1] == "baseline"
    (fold_of(world, 0, "tuned") / "oof.npz").unlink()
    done(world, "train", *FLAGS, "--run-name", "baseline", "--seed", 7, "--restart")
    refused(run_command(world, "train", *STILL), "was started with other settings (start_from: baseline ")
    (world / "runs/svhn/baseline").rename(world / "elsewhere")
    assert "is missing or damaged, and is made again" in done(world, "train", *STILL).out
    refused(run_command(world, "train", *STILL, "--restart"), "runs/svhn/baseline: no such run")


def test_repairs_name_files_as_they_were_given(world: Path) -> None:
    labels = run_at(world / "runs/svhn/baseline").prepared.labels
    file = world / "suspects.csv"
    file.write_text(f"image_path\n{labels['image_path'].iloc[0]}\n")
    done(world, "train", *FLAGS, "--run-name", "clean", "--suspects", file)
    run = run_at(world / "runs/svhn/clean")
    command = shlex.split(run.train_command(0))
    assert command[command.index("--suspects") + 1] == str(file)
    for paths in run.started_folds():
        paths.record.unlink()
    command = shlex.split(run.train_command(0))  # only run.json is left, which has the file's name
    assert command[command.index("--suspects") + 1] == "suspects.csv"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--run-name", "tuned", "--start-from", "tuned"), "is the run itself"),
        (("--run-name", "tuned", "--start-from", "none"), "no such run"),
        (("--run-name", "tuned", "--start-from", "baseline", "--weights", "a.pth"), "give one of them"),
        (
            ("--run-name", "tuned", "--start-from", "baseline", "--backbone", "svhn_cnn"),
            "whose network is string_cnn: do not fit this backbone",
        ),
        (
            ("--run-name", "tuned", "--weights", "runs/svhn/baseline/fold0/last.safetensors"),
            "use --start-from baseline, which gives each fold its own",
        ),
    ],
)
def test_what_it_cannot_begin_with_is_refused(world: Path, flags: tuple[str, ...], message: str) -> None:
    refused(run_command(world, "train", *FLAGS, *flags), message)
    assert not (world / "runs/svhn/tuned/run.json").exists()


def test_damaged_weights_are_refused(world: Path) -> None:
    file = fold_of(world, 1) / "last.safetensors"
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(run_command(world, "train", *STILL, "--fold", 1), f"{file.relative_to(world)}: is missing or damaged; run ")


def test_images_held_out_now_may_not_have_been_trained_on_then(world: Path) -> None:
    done(world, "prepare", "--num-folds", 2, "--num-processes", 1, "--image-size", 40, 60)  # the same folds, larger
    done(world, "train", *STILL, "--run-name", "larger")
    done(world, "prepare", "--num-folds", 3, "--num-processes", 1)
    ended = run_command(world, "train", *STILL)
    refused(ended, "--start-from baseline: its fold 0 was trained on ", " images that this fold holds out, such as ")


def test_weights_of_another_competition_are_those_of_the_backbone(world: Path, tmp_path: Path) -> None:
    """A whole network's file, as a run keeps it: a copy elsewhere is not recognised as this competition's."""
    state = load_file(fold_of(world) / "last.safetensors")
    assert all(name.startswith("backbone.") for name in state)
    save_file(state, tmp_path / "other.safetensors")
    flags = (*FLAGS, "--run-name", "tuned", "--epochs", 1, "--lr", 1e-9, "--ema", 0, "--fold", 0)
    done(world, "train", *flags, "--weights", tmp_path / "other.safetensors")
    tuned, same = learnt(world, "tuned", 0), learnt(world, "baseline", 0)
    assert all(torch.allclose(tuned[name], same[name], atol=1e-6) for name in same)


def test_a_symbolic_link_into_the_runs_is_recognised(tmp_path: Path) -> None:
    fold = tmp_path / "runs" / "svhn" / "first" / "fold0"
    fold.mkdir(parents=True)
    (tmp_path / "link").symlink_to(fold)
    config = TrainConfig(competition="svhn", runs_dir=tmp_path / "runs", weights=tmp_path / "link" / "last.safetensors")
    with pytest.raises(InputError, match="use --start-from first"):
        check_start(config)
