"""--start-from: each fold begins with another run's weights of that fold, which saw nothing that it holds out."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.writing import sha256_of
from src.models.contract import last_layer
from src.runs.run import Run, build_network
from src.training.starting import _check_unseen, check_start, start_from
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
    record = json.loads((fold_of(world, 0, "tuned") / "fold.json").read_text())
    assert record["started_from"] == sha256_of(fold_of(world) / "last.safetensors")
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
    for paths in run.paths.started_folds():
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
    refused(
        ended, "--start-from baseline: fold 0 of baseline was trained on ", " images that this fold holds out, such"
    )


def test_images_without_a_fold_were_trained_on(world: Path) -> None:
    done(world, "prepare", "--split", "holdout", "--num-processes", 1)
    done(world, "train", *FLAGS, "--run-name", "held", "--fold", 0)
    done(world, "prepare", "--num-folds", 2, "--num-processes", 1)
    ended = run_command(world, "train", *FLAGS, "--run-name", "tuned", "--start-from", "held", "--fold", 0)
    refused(ended, "--start-from held: fold 0 of held was trained on ", " images that this fold holds out")


def test_what_the_other_run_started_from_is_looked_at_too(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that the last run does not know may have been trained on before it."""
    root = world / "runs/svhn"
    run = run_at(root / "baseline")
    for name, second in (("first", "1"), ("second", "")):  # snapshots of their own, in which fold 0 is the same
        lines = [f"{row.image_path},{0 if row.fold == 0 else second}" for row in run.prepared.folds.itertuples()]
        (world / "folds.csv").write_text("\n".join(["image_path,fold", *lines]) + "\n")
        done(world, "prepare", "--folds", "folds.csv", "--num-processes", 1)
        started = ("--start-from", "first") if name == "second" else ()
        done(world, "train", *FLAGS, "--run-name", name, "--fold", 0, *started)
    looked_at: list[str] = []

    def opened(config: TrainConfig, name: str) -> Run:
        looked_at.append(name)
        return run_at(root / name)

    monkeypatch.setattr("src.training.starting.open_run", opened)
    config = TrainConfig(competition="svhn", runs_dir=world / "runs", start_from="second")
    _check_unseen(config, run_at(root / "second"), run, 0)
    assert looked_at == ["first"]
    circle = {}
    for name, other in (("first", "second"), ("second", "first")):
        begun = run_at(root / name).started_record
        circle[name] = replace(run_at(root / name), record=replace(begun, train=replace(begun.train, start_from=other)))
    monkeypatch.setattr("src.training.starting.open_run", lambda config, name: circle[name])
    _check_unseen(config, circle["second"], run, 0)  # ends


def test_a_last_layer_of_other_classes_stays_new(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_at(world / "runs/svhn/baseline")
    fold = run.trained()[0]
    heads = tuple(replace(head, classes=(*reversed(head.classes[:-1]), "")) for head in run.competition.heads)
    other = replace(run, record=replace(run.started_record, heads=heads))
    monkeypatch.setattr("src.training.starting.starting_fold", lambda *_: (other, fold))
    network = build_network(run.started_record.model)
    new = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    start_from(network.backbone, TrainConfig(competition="svhn", start_from="baseline"), run, 0)
    last, kept = last_layer(network.backbone), load_file(fold.weights_file)
    assert last
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, new[name] if name in last else kept[f"backbone.{name}"]), name


def test_weights_of_another_competition_are_those_of_the_backbone(world: Path, tmp_path: Path) -> None:
    """A whole network's file, as a run keeps it: a copy elsewhere is not recognised as this competition's."""
    state = load_file(fold_of(world) / "last.safetensors")
    assert all(name.startswith("backbone.") for name in state)
    save_file(state, tmp_path / "other.safetensors")
    flags = (*FLAGS, "--run-name", "tuned", "--epochs", 1, "--lr", 1e-9, "--ema", 0, "--fold", 0)
    done(world, "train", *flags, "--weights", tmp_path / "other.safetensors")
    tuned, same = learnt(world, "tuned", 0), learnt(world, "baseline", 0)
    assert all(torch.allclose(tuned[name], same[name], atol=1e-6) for name in same)


@pytest.mark.parametrize(
    ("competition", "folder", "message"),
    [
        ("svhn", "svhn/first/fold0", "use --start-from first, which gives each fold its own"),
        ("svhn", "svhn/first/restart/fold0", "use --start-from"),
        ("svhn:boxes", "svhn/first/fold0", "start from a network of other images"),
        ("svhn", "svhn_boxes/first/fold0", "start from a network of other images"),
        ("svhn", "food11/first/fold0", ""),
        ("svhn", "svhn/first", ""),  # such as a run's copy of what it began with
    ],
)
def test_weights_that_saw_the_competitions_images_are_refused(
    tmp_path: Path, competition: str, folder: str, message: str
) -> None:
    (tmp_path / "runs" / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "runs" / folder)
    for place in (tmp_path / "runs" / folder, tmp_path / "link"):
        config = TrainConfig(competition=competition, runs_dir=tmp_path / "runs", weights=place / "last.safetensors")
        if message:
            with pytest.raises(InputError, match=message):
                check_start(config)
        else:
            check_start(config)


def test_a_transformer_starts_from_images_of_another_shape(world: Path) -> None:
    flags = ("--competition", "svhn", "--backbone", "test_vit", "--no-pretrained", "--batch-size", 4, "--epochs", 1,
             "--fold", 0, "--lr", 1e-9, "--ema", 0)  # fmt: skip
    done(world, "train", *flags, "--run-name", "wide", "--image-size", 32, 64)
    for size in ((48, 96), (64, 32)):  # other numbers of patches; as many, in other places
        done(world, "train", *flags, "--run-name", f"to{size[0]}", "--image-size", *size, "--start-from", "wide")
        found, before = learnt(world, f"to{size[0]}", 0), learnt(world, "wide", 0)
        wanted = resample_abs_pos_embed(
            before["backbone.pos_embed"], [size[0] // 16, size[1] // 16], old_size=[2, 4], num_prefix_tokens=1
        )
        torch.testing.assert_close(found["backbone.pos_embed"], wanted, atol=1e-4, rtol=0)
