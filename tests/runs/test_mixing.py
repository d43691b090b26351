"""Files that do not belong together are never used together: refused in one line, or made again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.records import read_record, write_record
from src.runs.record import FoldRecord, RunRecord
from tests.helpers import run_at, snapshot_at
from tests.world import FLAGS, PREPARE, done, fold_of, refused, run_command


def answers(world: Path, name: str = "baseline") -> bytes:
    return (world / "submissions" / "svhn" / f"{name}.csv").read_bytes()


def write(path: Path, data: bytes) -> None:
    """Replace a file that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def copy(source: Path, target: Path) -> None:
    write(target, source.read_bytes())


def relabel(world: Path) -> None:
    """Correct one label in input/."""
    path = world / "input" / "svhn" / "mchar_train.json"
    labels = json.loads(path.read_text())
    labels["000000.png"]["label"] = [7]
    labels["000000.png"] |= {key: [1] for key in ("left", "top", "width", "height")}
    write(path, json.dumps(labels).encode())


def test_a_run_goes_on_with_its_snapshot_after_prepare_found_other_labels(world: Path) -> None:
    before = json.loads(done(world, "evaluate").out and (fold_of(world).parent / "evaluation/scores.json").read_text())
    old = snapshot_at(world / "runs" / "svhn")
    relabel(world)
    done(world, "prepare", *PREPARE)
    assert snapshot_at(world / "runs" / "svhn") != old
    shutil.rmtree(fold_of(world, 1))
    ended = done(world, "train", *FLAGS)
    assert "fold 0: already trained" in ended.out
    done(world, "evaluate")
    assert json.loads((fold_of(world).parent / "evaluation/scores.json").read_text()) == before
    done(world, "predict")


def test_runs_on_different_labels_are_not_blended(world: Path) -> None:
    relabel(world)
    done(world, "prepare", *PREPARE)
    done(world, "train", *FLAGS, "--run-name", "other", "--seed", 1, "--restart")
    ended = run_command(world, "blend", "--run-name", "baseline", "other", "--outer-folds", 2)
    refused(ended, "other and baseline were scored with different labels")


@pytest.mark.parametrize(
    "flags", [("--epochs", 1), ("--augment.rotate", 3), ("--image-size", 40, 48), ("--seed", 4)], ids=str
)
def test_a_fold_is_not_added_with_other_flags(world: Path, flags: tuple[object, ...]) -> None:
    shutil.rmtree(fold_of(world, 1))
    refused(run_command(world, "train", *FLAGS, "--fold", 1, *flags), "was started with other settings (")


def test_prepare_at_another_size_between_folds_changes_nothing(world: Path) -> None:
    shutil.rmtree(fold_of(world, 1))
    expected = answers(world)
    done(world, "prepare", *PREPARE, "--image-size", 40, 80)
    done(world, "train", *FLAGS, "--fold", 1)
    done(world, "predict")
    assert answers(world) == expected


@pytest.mark.parametrize("name", ["labels.csv", "folds.csv", "test.csv"])
@pytest.mark.parametrize("damage", ["edited", "cut"])
def test_an_edited_table_is_refused_and_prepare_makes_it_again(world: Path, name: str, damage: str) -> None:
    path = snapshot_at(world / "runs" / "svhn") / name
    intact = path.read_bytes()
    lines = intact.splitlines(keepends=True)
    write(path, b"".join(lines[:-1] if damage == "cut" else [lines[0], *reversed(lines[1:])]))
    commands = {"test.csv": (("predict", "--input-dir", "nowhere"),)}.get(name, (("evaluate",), ("train", *FLAGS)))
    for command in commands:
        if command[0] == "train":
            shutil.rmtree(fold_of(world, 1))
        refused(run_command(world, *command), name, "was changed after prepare wrote it", "run python -m src.prepare")
    done(world, "prepare", *PREPARE)
    assert path.read_bytes() == intact
    for command in reversed(commands):
        done(world, *command)


@pytest.mark.parametrize("kind", ["last.safetensors", "oof.npz"])
@pytest.mark.parametrize("source", ["fold1", "other"])
def test_files_of_another_fold_or_run_are_refused_and_made_again(world: Path, kind: str, source: str) -> None:
    target = fold_of(world) / kind
    intact = target.read_bytes()
    other = fold_of(world, 1) if source == "fold1" else fold_of(world, 0, "other")
    copy(other / kind, target)
    if kind == "last.safetensors":
        copy(other / f"{kind}.sha256", target.with_name(f"{kind}.sha256"))
        (fold_of(world) / "test.npz").unlink()
    command = "predict" if kind == "last.safetensors" else "evaluate"
    ended = run_command(world, command)
    refused(ended, f"fold0/{kind}", "its SHA-256 is not the one in fold.json", "run python -m src.train", "--fold 0")
    assert "--restart" not in ended.err
    done(world, "train", *FLAGS)
    assert target.read_bytes() == intact
    done(world, command)


def test_the_command_that_a_refusal_names_repairs_the_fold(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = fold_of(world) / "last.safetensors"
    intact = target.read_bytes()
    write(target, intact[:-100])
    (fold_of(world) / "test.npz").unlink()
    ended = run_command(world, "predict")
    words = ended.err.split("run python -m src.")[1].split(", which makes it again")[0].split()
    done(world, *words)
    assert target.read_bytes() == intact


def test_a_checkpoint_of_another_fold_is_not_resumed_from(world: Path) -> None:
    for name in ("last.pt", "last.pt.sha256"):
        copy(fold_of(world, 1) / name, fold_of(world) / name)
        (fold_of(world) / f"previous_{name}").unlink(missing_ok=True)
    (fold_of(world) / "last.safetensors").unlink()
    ended = run_command(world, "train", *FLAGS)
    refused(ended, "fold0/last.pt", "of another training")
    assert "belongs to another training (fold 1)" in ended.out


def test_a_value_that_is_not_finite_in_the_predictions_is_refused(world: Path) -> None:
    path = fold_of(world) / "oof.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    content["probabilities_tta"][0, 0] = np.nan
    path.unlink()
    np.savez(path, **content)
    refused(run_command(world, "evaluate"), "fold0/oof.npz", "is damaged, edited or of another fold")


@pytest.mark.parametrize("field", ["mean", "image_size"])
@pytest.mark.parametrize("file", ["run.json", "fold0/fold.json"])
def test_an_edited_record_is_refused(world: Path, file: str, field: str) -> None:
    path = fold_of(world).parent / file
    record = json.loads(path.read_text())
    record.get("run", record)["model"][field][0] = 24
    write(path, json.dumps(record).encode())
    ended = run_command(world, "predict")
    if file == "run.json":  # its folds still say what it was
        assert (ended.code, ended.err) == (0, "")
        assert read_record(path.with_name("fold0") / "fold.json", FoldRecord, "", "").run.model.image_size == (32, 48)
    else:
        refused(ended, "fold0/fold.json", "was edited after it was written")


def test_a_record_sealed_anew_is_refused_too(world: Path) -> None:
    path = fold_of(world).parent / "run.json"
    record = read_record(path, RunRecord, "", "")
    path.unlink()
    write_record(path, replace(record, cache_size=(24, 32)))
    refused(run_command(world, "evaluate"), "fold0/fold.json", "belongs to another run")


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_lost_or_damaged_fold_record_is_made_again_from_the_checkpoint(world: Path, damage: str) -> None:
    path = fold_of(world) / "fold.json"
    intact = read_record(path, FoldRecord, "", "")
    path.unlink()
    if damage == "damaged":
        path.write_text("{")
    for command in ("evaluate", "predict"):
        refused(run_command(world, command), "fold0/fold.json", damage, "run python -m src.train")
    (world / "steps").touch()
    ended = done(world, "train", *FLAGS)
    assert f"fold0/fold.json: is {damage}, and is made again from the checkpoint" in ended.out
    assert "resumes after epoch 2" in ended.out
    again = read_record(path, FoldRecord, "", "")
    assert again.result
    assert intact.result
    assert (again.result.weights_sha256, again.result.oof_sha256) == (
        intact.result.weights_sha256,
        intact.result.oof_sha256,
    )


def test_a_copied_fold_is_not_counted_twice(world: Path) -> None:
    shutil.copytree(fold_of(world), fold_of(world, 7))
    for command in ("evaluate", "predict"):
        refused(run_command(world, command), "fold7", "delete")
    shutil.rmtree(fold_of(world, 7))
    shutil.rmtree(fold_of(world, 1))
    shutil.copytree(fold_of(world), fold_of(world, 1))
    refused(run_command(world, "evaluate"), "fold1/fold.json: belongs to fold 0, not 1")


@pytest.mark.parametrize("name", ["run.json", "snapshot.json", "current.json"])
@pytest.mark.parametrize("content", [b"", b'{"seal"', b"{}", b"[]", b"null"])
def test_a_damaged_record_is_one_line(world: Path, name: str, content: bytes) -> None:
    root = world / "runs" / "svhn"
    path = {"run.json": root / "new" / name, "current.json": root / "prepared" / name}.get(
        name, snapshot_at(root) / name
    )
    path.parent.mkdir(exist_ok=True)
    write(path, content)
    ended = run_command(world, "train", *FLAGS, "--run-name", "new", "--resume")
    refused(ended)


def test_edited_test_predictions_are_not_used(world: Path) -> None:
    path, expected = fold_of(world) / "test.npz", answers(world)
    with np.load(path) as arrays:
        content = dict(arrays)
    content["probabilities_tta"] = content["probabilities_tta"][::-1]
    path.unlink()
    np.savez(path, **content)
    done(world, "predict")
    assert answers(world) == expected


def test_absent_folds_are_named(world: Path) -> None:
    shutil.rmtree(fold_of(world, 1))
    ended = done(world, "predict")
    assert "note: baseline: fold 1 is not trained to its end and does not answer" in ended.out
    assert json.loads((world / "submissions/svhn/baseline.json").read_text())["runs"][0]["folds_absent"] == [1]


def test_evaluate_takes_only_a_plain_name(world: Path) -> None:
    refused(run_command(world, "evaluate", "--run-name", "../svhn/baseline"), "must be one file name, without / or")
    refused(run_command(world, "predict", "--run-name", "../svhn/baseline"), "must be one file name, without / or")


def test_the_note_describes_the_weights_that_answered(world: Path) -> None:
    done(world, "predict")
    note = json.loads((world / "submissions/svhn/baseline.json").read_text())
    run = run_at(fold_of(world).parent)
    assert note["runs"][0]["run_id"] == run.id
    assert note["runs"][0]["snapshot"] == run.prepared.id
    assert [fold["weights_sha256"] for fold in note["runs"][0]["folds"]] == [
        fold.result.weights_sha256 for fold in run.trained()
    ]


@pytest.fixture
def sample(world: Path) -> Callable[[list[str]], None]:
    """Return a function that writes the sample submission's rows."""

    def write_rows(ids: list[str]) -> None:
        path = world / "input" / "svhn" / "mchar_sample_submit_A.csv"
        write(path, "\n".join(["file_name,file_code", *(f"{name},0" for name in ids), ""]).encode())

    return write_rows


def test_predict_answers_the_sample_submission_as_it_is_now(world: Path, sample: Callable[[list[str]], None]) -> None:
    before = pd.read_csv(world / "submissions/svhn/baseline.csv", dtype=str)
    sample(before["file_name"].tolist()[::-1])
    ended = done(world, "predict")
    assert "note: the sample submission is not the one that the run was prepared for (its order)" in ended.out
    after = pd.read_csv(world / "submissions/svhn/baseline.csv", dtype=str)
    assert after.to_numpy().tolist() == before.to_numpy().tolist()[::-1]
    sample(before["file_name"].tolist()[:2])
    ended = done(world, "predict")
    assert "(2 ids instead of 3)" in ended.out
    assert pd.read_csv(world / "submissions/svhn/baseline.csv", dtype=str).equals(before[:2])


def test_new_or_replaced_test_images_ask_for_prepare(world: Path, sample: Callable[[list[str]], None]) -> None:
    folder = world / "input" / "svhn" / "mchar_test_a"
    ids = sorted(path.name for path in folder.iterdir())
    copy(folder / ids[0], folder / "000099.png")
    sample([*ids, "000099.png"])
    refused(run_command(world, "predict"), "1 test images of the sample submission are not those", "run python -m src")
    done(world, "prepare", *PREPARE)
    done(world, "predict")
    assert len(pd.read_csv(world / "submissions/svhn/baseline.csv")) == 4
    copy(world / "input/svhn/mchar_train/000003.png", folder / ids[0])
    refused(run_command(world, "predict"), "1 test images have changed in input/ since prepare read them")
    done(world, "prepare", *PREPARE)
    done(world, "predict")


def test_without_input_the_snapshots_copy_is_answered(world: Path) -> None:
    expected = answers(world)
    (world / "input").rename(world / "elsewhere")
    ended = done(world, "predict")
    assert "note: input/svhn is not on this machine; prepare's copy of the sample submission is answered" in ended.out
    assert answers(world) == expected
