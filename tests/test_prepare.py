"""prepare reports every problem of a data set, groups duplicates, and does nothing twice."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.core.locking import locked
from src.core.records import write_record
from src.data import decoding, problems
from tests.drawing import draw, write_image
from tests.fixtures import MakeLeaves, MakeSvhn, Podium
from tests.helpers import prepared_at, read_image, snapshot_at, table_at
from tests.world import done, refused, run_command

SNAPSHOT = {"labels.csv", "test.csv", "folds.csv", "problems.csv", "snapshot.json"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "svhn"


def relabel(folder: Path, numbers: dict[str, list[int]]) -> None:
    """Label images of mchar_train.json with these digits, without boxes."""
    path = folder / "mchar_train.json"
    entries = json.loads(path.read_text())
    entries.update({name: {"label": digits} for name, digits in numbers.items()})
    path.write_text(json.dumps(entries))


def test_prepare_writes_what_training_needs(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    svhn()
    code, out, _ = podium("prepare", "--num-folds", 3)
    assert code == 0
    assert out.splitlines()[-1] == f"prepared: runs/svhn/prepared/{snapshot_at(root).name}"
    assert {path.name for path in snapshot_at(root).iterdir()} == SNAPSHOT
    labels, folds, test = (table_at(root, name) for name in ("labels", "folds", "test"))
    assert len(labels) == 18
    assert list(folds["image_path"]) == sorted(labels["image_path"])
    assert set(folds["fold"]) == {0, 1, 2}
    assert test["id"].tolist() == [f"{i:06d}.png" for i in range(5)]
    made = prepared_at(root)
    assert np.load(made.cache_file("train", (64, 128))).shape == (18, 64, 128, 3)
    assert np.load(made.cache_file("test", (64, 128))).shape == (5, 64, 128, 3)
    for folder in (root / "prepared", snapshot_at(root)):
        assert (folder / "problems.csv").read_text() == "split,image_path,problem,action,detail\n"


def test_every_problem_is_reported_with_its_image(
    svhn: MakeSvhn, podium: Podium, root: Path, png_header: Callable[[int, int], bytes]
) -> None:
    folder = svhn(num_train=24)
    train = folder / "mchar_train"
    (train / "000000.png").unlink()
    (train / "000001.png").write_bytes(b"")
    (train / "000002.png").write_bytes((train / "000002.png").read_bytes()[:900])
    (train / "000003.png").write_bytes(png_header(60_000, 60_000))
    (train / "000004.png").write_text("<html>")
    (train / "extra.png").write_bytes((train / "000009.png").read_bytes())
    relabel(folder, {f"{i:06d}.png": [1, 2] for i in range(10, 16)})
    (train / "000011.png").write_bytes((train / "000010.png").read_bytes())  # the same label
    relabel(folder, {"000013.png": [1, 3]})
    (train / "000013.png").write_bytes((train / "000012.png").read_bytes())  # another label
    image = read_image(train / "000014.png")
    cv2.imwrite(str(train / "000015.png"), cv2.resize(image, (36, 27), interpolation=cv2.INTER_AREA))
    (folder / "mchar_test_a" / "000000.png").unlink()
    cv2.imwrite(str(folder / "mchar_test_a" / "more.png"), image)

    code, out, _ = podium("prepare", "--num-folds", 3, "--max-unreadable", 0.2)
    assert code == 0
    problems = pd.read_csv(root / "prepared" / "problems.csv")
    columns = (problems[name] for name in ("split", "image_path", "problem"))
    found = {(split, path.split("/")[1], problem) for split, path, problem in zip(*columns, strict=True)}
    assert found == {
        ("train", "000000.png", "missing"),
        ("train", "000001.png", "empty"),
        ("train", "000002.png", "truncated"),
        ("train", "000003.png", "over-large"),
        ("train", "000004.png", "not an image"),
        ("train", "extra.png", "unlabelled"),
        ("train", "000011.png", "duplicate"),
        ("train", "000012.png", "conflicting labels"),
        ("train", "000013.png", "conflicting labels"),
        ("train", "000015.png", "near duplicate"),
        ("test", "000000.png", "missing"),
        ("test", "more.png", "unlisted"),
    }
    assert len(problems) == len(found)
    assert table_at(root, "problems").equals(problems)
    detail = problems.set_index("image_path")["detail"]
    assert detail["mchar_train/000011.png"] == "same pixels as mchar_train/000010.png"
    assert detail["mchar_train/000012.png"] == "same pixels as mchar_train/000013.png"
    assert detail["mchar_train/000013.png"] == "same pixels as mchar_train/000012.png"
    assert detail["mchar_train/000015.png"] == "looks like mchar_train/000014.png"
    assert "see runs/svhn/prepared/problems.csv" in out

    labels = table_at(root, "labels").set_index("image_path")
    unusable = {f"mchar_train/{i:06d}.png" for i in (0, 1, 2, 3, 4, 12, 13)}
    assert (
        set(labels.index)
        == {
            *(f"mchar_train/{i:06d}.png" for i in range(24)),
            *(f"mchar_val/{i:06d}.png" for i in range(6)),
        }
        - unusable
    )
    group = labels["group"]
    assert group["mchar_train/000010.png"] == group["mchar_train/000011.png"]
    assert group["mchar_train/000014.png"] == group["mchar_train/000015.png"]
    assert group.nunique() == len(labels) - 2
    assert len(table_at(root, "test")) == 5  # every row of the submission is answered


def test_strict_stops_at_the_first_problem_with_exit_code_2(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    folder = svhn()
    (folder / "mchar_train" / "000004.png").write_bytes(b"")
    code, _, err = podium("prepare", "--num-folds", 3, "--strict")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: mchar_train/000004.png (train): empty, 0 bytes; --strict")
    assert not (root / "prepared" / "current.json").exists()
    assert "000004.png,empty" in (root / "prepared" / "problems.csv").read_text()
    assert podium("prepare", "--num-folds", 3)[0] == 0


def test_preparing_again_gives_identical_files_and_decodes_nothing(
    svhn: MakeSvhn, podium: Podium, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = svhn()
    (folder / "mchar_train" / "000004.png").write_bytes(b"")
    assert podium("prepare", "--num-folds", 3)[0] == 0

    def written() -> dict[str, bytes]:
        files = [path for name in ("prepared", "cache") for path in (root / name).rglob("*") if path.is_file()]
        return {str(file.relative_to(root)): file.read_bytes() for file in files}

    first, made = written(), prepared_at(root)
    duplicates = root / "cache" / f"duplicates_{made.snapshot.train.pixels[:8]}.json"
    caches = [made.cache_file(split, (64, 128)) for split in ("train", "test")]
    tables = [
        root / "prepared" / name for name in ("current.json", "problems.csv", *(f"{made.id}/{n}" for n in SNAPSHOT))
    ]
    facts = [made.cache(split).facts.file for split in ("train", "test")]
    expected = [*tables, duplicates, *caches, *facts, *(path.with_suffix(".json") for path in caches)]
    assert set(first) == {str(path.relative_to(root)) for path in expected}
    monkeypatch.setattr(decoding, "decode_image", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(problems, "near_duplicates", lambda *_: pytest.fail("searched for duplicates again"))
    code, out, _ = podium("prepare", "--num-folds", 3)
    assert code == 0
    assert out.count("cache is up to date") == 2
    assert written() == first
    assert out.splitlines()[-1].endswith(f"{made.id} (nothing has changed)")
    monkeypatch.undo()
    write_record(duplicates, problems.Duplicates(policy=problems.POLICY, pixels="of other images", pairs=[(0, 1)]))
    assert podium("prepare", "--num-folds", 3)[0] == 0
    assert written() == first


def test_a_run_refuses_images_that_are_fitted_otherwise_now(leaves: MakeLeaves, podium: Podium) -> None:
    file = leaves()
    assert podium("prepare", "--competition", file, "--num-folds", 2).code == 0
    flags = ("--backbone", "svhn_cnn", "--no-pretrained", "--epochs", 1, "--batch-size", 4)
    assert podium("train", "--competition", file, *flags).code == 0
    file.write_text(file.read_text().replace("csv_competition(", 'csv_competition(resize="letterbox", '))
    refused(
        podium("evaluate", "--competition", file), "was made with resize=stretch, the competition has resize=letter"
    )


def test_the_text_of_classes_and_ids_is_preserved(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    assert podium("prepare", "--competition", "leaves.py")[0] == 0
    root = tmp_path / "runs" / "leaves"
    heads = json.loads((snapshot_at(root) / "snapshot.json").read_text())["heads"]
    assert [(head["name"], head["classes"]) for head in heads] == [("label", ["007", "NA", "null", "oak, red"])]
    assert table_at(root, "labels")["label"].tolist() == [1, 0, 3, 2] * 4
    assert table_at(root, "test")["id"].tolist() == [f"{i:04d}.png" for i in reversed(range(5))]


def test_nothing_is_written_below_input(svhn: MakeSvhn, podium: Podium) -> None:
    folder = svhn(packing="zip")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert podium("prepare")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_two_commands_cannot_prepare_the_same_competition(svhn: MakeSvhn, podium: Podium, root: Path) -> None:
    svhn()
    with locked(root / "prepared", "is preparing this competition"):
        code, _, err = podium("prepare")
        assert code == 2
        assert f"process {os.getpid()} is preparing this competition; wait for it" in err
    assert podium("prepare")[0] == 0


def test_only_test_decodes_new_test_images_for_the_runs_that_are_there(world: Path) -> None:
    """What a code competition asks for: trained runs without caches, and hidden test images."""
    sample = world / "input" / "svhn" / "mchar_sample_submit_A.csv"
    text = sample.read_text() + "000003.png,0\n"
    sample.unlink()
    sample.write_text(text)
    write_image(sample.with_name("mchar_test_a") / "000003.png", draw(9))
    shutil.rmtree(world / "runs" / "svhn" / "cache")
    before = table_at(world / "runs" / "svhn", "labels")
    ended = done(world, "prepare", "--only-test", "--num-processes", 1)
    assert "test: 4 images at 64x128, decoded" in ended.out
    assert "train:" not in ended.out
    assert table_at(world / "runs" / "svhn", "labels").equals(before)
    done(world, "predict")
    answers = (world / "submissions" / "svhn" / "baseline.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in answers[1:]] == [f"00000{number}.png" for number in range(4)]


@pytest.mark.parametrize("flags", [("--resize", "letterbox"), ("--crops", "crops.csv")])
def test_test_images_that_were_resized_or_cropped_differently_are_not_answered(
    world: Path, flags: tuple[str, str]
) -> None:
    (world / "crops.csv").write_text("image_path,left,top,right,bottom\nmchar_test_a/000000.png,0,0,0.5,1\n")
    shutil.rmtree(world / "runs" / "svhn" / "cache")
    done(world, "prepare", "--only-test", "--num-processes", 1, *flags)
    refused = run_command(world, "predict")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "python -m src.prepare" in refused.err
    done(world, "prepare", "--only-test", "--num-processes", 1)
    done(world, "predict")


def test_test_images_that_another_file_has_cropped_are_told(world: Path) -> None:
    header = "image_path,left,top,right,bottom\n"
    (world / "crops.csv").write_text(header + "mchar_test_a/000000.png,0,0,0.5,1\n")
    done(world, "prepare", "--num-folds", 2, "--num-processes", 1, "--crops", "crops.csv")
    flags = ("--backbone", "string_cnn", "--no-pretrained", "--epochs", 1, "--run-name", "cut")
    done(world, "train", *flags, "--fold", 0)
    image = world / "input" / "svhn" / "mchar_test_a" / "000001.png"
    image.unlink()
    write_image(image, draw(9))
    (world / "crops.csv").write_text(header + "mchar_test_a/000000.png,0,0,0.6,1\n")
    done(world, "prepare", "--only-test", "--num-processes", 1, "--crops", "crops.csv")
    ended = done(world, "predict", "--run-name", "cut")
    assert "note: the test images are cropped by another crops.csv" in ended.out


def test_new_test_images_with_a_zero_end_are_not_counted_as_black(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves(num_test=25)
    image = tmp_path / "input/leaves/test/0003.png"
    whole = cv2.imencode(".bmp", read_image(image))[1].tobytes()
    image.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    flags = ("prepare", "--competition", "leaves.py", "--num-folds", 2)
    assert "1 test zero end" in podium(*flags).out
    assert "test images: 25, 0 of them answered from a black image" in podium(*flags, "--only-test").out


@pytest.mark.parametrize(("brightest", "warned"), [(4095, True), (65535, False)])
def test_images_of_12_bits_in_16_are_told(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, brightest: int, warned: bool
) -> None:
    leaves()
    rng = np.random.default_rng(0)
    for file in (tmp_path / "input/leaves").rglob("*.png"):
        cv2.imwrite(str(file), rng.integers(0, brightest, (40, 30), np.uint16, endpoint=True))
    out = podium("prepare", "--competition", "leaves.py", "--num-folds", 2).out
    assert ("the images are nearly black: none of 16 has a value above 15" in out) == warned
