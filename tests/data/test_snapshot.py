"""Snapshots: one id for the same input, never changed, never half there, kept while a run uses them."""

import json
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.competitions.spec import Head
from src.core.writing import sha256_of, write_csv
from src.data import snapshot as snapshots
from src.data.shelf import shelf
from src.data.snapshot import Snapshot, SplitFacts, read_chunks, read_table
from tests.helpers import prepared_at, run_at, snapshot_at
from tests.world import FLAGS, PREPARE, done, link, run_command

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_input_and_flags_give_the_same_snapshot_and_nothing_is_written(world: Path) -> None:
    root = world / "runs" / "svhn"
    before, times = snapshot_at(root), {path: path.stat().st_mtime_ns for path in (root / "cache").iterdir()}
    ended = done(world, "prepare", *PREPARE)
    assert f"prepared: {before.relative_to(world)} (nothing has changed)" in ended.out
    assert snapshot_at(root) == before
    assert {path: path.stat().st_mtime_ns for path in (root / "cache").iterdir()} == times


def names_in(cache: Path) -> list[str]:
    """Return the names of a cache's files, without those that hold the times of the originals."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".npz")


def test_copied_input_gives_the_same_snapshot_and_caches_though_its_times_differ(world: Path) -> None:
    root = world / "runs" / "svhn"
    before, caches = snapshot_at(root), names_in(root / "cache")
    shutil.copytree(world / "input", world / "copied")
    shutil.rmtree(world / "input")  # before: a hard link would share its times with other tests
    (world / "copied").rename(world / "input")
    for path in (world / "input").rglob("*"):
        os.utime(path, (time.time(), time.time() - 1000))
    ended = done(world, "prepare", *PREPARE)
    assert "decoded" in ended.out
    assert snapshot_at(root) == before
    assert names_in(root / "cache") == caches
    done(world, "predict")


def test_another_machine_gives_the_same_snapshot(world: Path, tmp_path: Path) -> None:
    other = link(world / "input", tmp_path / "other" / "input").parent
    done(other, "prepare", *PREPARE[:-1], 2)
    assert files(snapshot_at(other / "runs" / "svhn")) == files(snapshot_at(world / "runs" / "svhn"))


def test_every_image_size_is_of_the_same_snapshot(world: Path) -> None:
    root = world / "runs" / "svhn"
    before = snapshot_at(root)
    done(world, "prepare", *PREPARE, "--image-size", 24, 40)
    assert snapshot_at(root) == before
    assert prepared_at(root).cache("train").image_size == (24, 40)
    assert prepared_at(root).cache("train", (64, 128)).image_size == (64, 128)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.none() | st.integers(0, 9), st.integers(-(2**62), 2**62)), max_size=5))
@example([("NA", "000123", None, 0), (" ", "\r", 1, 1), ("1e5", "", None, 2), ('"', "a,\n", 3, 3)])
def test_a_table_is_read_as_it_was_written(rows: list[tuple[str, str, int | None, int]]) -> None:
    kinds = {"image_path": "str", "id": "str", "fold": "Int64", "label": "int64"}
    table = pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
    facts = SplitFacts(pixels="", num_images=0, num_unreadable=0)
    with TemporaryDirectory() as name:
        write_csv(Path(name) / "table.csv", table)
        tables = {"table.csv": sha256_of(Path(name) / "table.csv")}
        snapshot = Snapshot(competition="", heads=(), flags="", tables=tables, train=facts, test=facts)
        pd.testing.assert_frame_equal(read_table(Path(name), "table.csv", snapshot, ""), table)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshots, "CHUNK", 2)
            for start, chunk in enumerate(read_chunks(Path(name), "table.csv", snapshot, "")):
                pd.testing.assert_frame_equal(chunk, table[2 * start : 2 * start + 2])


def test_a_head_may_be_called_like_a_text_column_of_another_table(tmp_path: Path) -> None:
    heads = (Head(name="detail", classes=("a", "b")), Head(name="action", kind="number"))
    facts = SplitFacts(pixels="", num_images=0, num_unreadable=0)
    table = pd.DataFrame({"image_path": ["0001", "NA"], "detail": [1, 0], "action": [0.5, 2.0]})
    problems = pd.DataFrame({"image_path": ["1"], "action": ["7"], "detail": ["8"]})
    for name, written in (("labels.csv", table), ("problems.csv", problems)):
        write_csv(tmp_path / name, written)
        tables = {name: sha256_of(tmp_path / name)}
        snapshot = Snapshot(competition="", heads=heads, flags="", tables=tables, train=facts, test=facts)
        expected = written.astype({"image_path": "str"}) if name == "labels.csv" else written.astype("str")
        pd.testing.assert_frame_equal(read_table(tmp_path, name, snapshot, ""), expected)


@pytest.mark.parametrize("name", ["labels.csv", "snapshot.json"])
def test_prepare_makes_a_damaged_snapshot_again(world: Path, name: str) -> None:
    folder = snapshot_at(world / "runs" / "svhn")
    intact = files(folder)
    (folder / name).unlink()
    (folder / name).write_bytes(intact[name][:-5])
    done(world, "prepare", *PREPARE)
    assert files(folder) == intact
    assert not list(folder.parent.glob(".*.tmp"))


@pytest.mark.parametrize("step", ["write_record", "replace_folder", "set_current"])
def test_a_prepare_that_is_killed_before_the_end_leaves_the_old_snapshot_current(
    world: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    root = world / "runs" / "svhn"
    before = snapshot_at(root)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, step, killed)
        with pytest.raises(KeyboardInterrupt):
            run_command(world, "prepare", *PREPARE[:2], "--num-folds", 3, "--num-processes", 1)
    assert snapshot_at(root) == before
    done(world, "evaluate")
    done(world, "prepare", *PREPARE[:2], "--num-folds", 3, "--num-processes", 1)
    assert snapshot_at(root) != before
    assert len(prepared_at(root).fold_numbers("all")) == 3


def test_prune_keeps_what_is_newest_or_used_and_the_caches_of_both(world: Path) -> None:
    root = world / "runs" / "svhn"
    used = snapshot_at(root)
    for count in (3, 4):
        done(world, "prepare", *PREPARE[:2], "--num-folds", count, "--num-processes", 1)
    newest = snapshot_at(root)
    listed = done(world, "prepare", "--list").out.splitlines()
    assert len(listed) == 3
    assert listed[0].startswith(used.name)
    assert listed[0].endswith("(run baseline, run other)")
    assert listed[1].endswith("--num-folds 3  (unused)")
    assert listed[2].endswith("(newest)")
    done(world, "prepare", "--prune")
    assert {entry.folder.name for entry in shelf(root, "")} == {used.name, newest.name}
    done(world, "evaluate")
    assert prepared_at(root).cache("train")
    assert run_at(root / "baseline").prepared.cache("test")


def test_prune_deletes_caches_that_nothing_uses(world: Path) -> None:
    root, image = world / "runs" / "svhn", world / "input/svhn/mchar_train/000003.png"
    copied = (world / "input/svhn/mchar_train/000004.png").read_bytes()
    image.unlink()
    image.write_bytes(copied[:100])  # unreadable: other pixels
    done(world, "prepare", *PREPARE)
    changed = prepared_at(root).cache_file("train", (64, 128))
    image.unlink()
    (world / "input/svhn/mchar_train/000003.png").write_bytes(copied)
    done(world, "prepare", *PREPARE)
    assert changed.exists()
    done(world, "prepare", "--prune")
    assert not changed.exists()
    done(world, "evaluate")


def test_prune_deletes_facts_that_a_killed_prepare_left_behind(world: Path) -> None:
    cache = world / "runs" / "svhn" / "cache"
    before = sorted(cache.iterdir())
    for path in cache.glob("*.npz"):
        shutil.copy(path, path.with_name(f"{path.stem[:-8]}01234567.npz"))
    done(world, "prepare", "--prune")
    assert sorted(cache.iterdir()) == before


def test_a_run_whose_snapshot_is_gone_says_what_makes_it_again(world: Path) -> None:
    folder = snapshot_at(world / "runs" / "svhn")
    folder.rename(world / "gone")
    for command in (("evaluate",), ("predict",), ("train", *FLAGS)):
        ended = run_command(world, *command)
        assert ended.code == 2
        assert f"{folder.relative_to(world)}: not there, but run baseline was trained on this snapshot" in ended.err
    done(world, "prepare", *PREPARE)
    done(world, "evaluate")


def test_current_names_only_what_is_there(world: Path) -> None:
    path = world / "runs/svhn/prepared/current.json"
    record = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(record | {"snapshot": "0" * 12}))
    ended = run_command(world, "train", *FLAGS, "--run-name", "new")
    assert ended.code == 2
    assert "current.json: was edited after it was written" in ended.err


def test_prune_keeps_what_a_search_or_a_run_with_a_lost_record_uses(world: Path) -> None:
    root = world / "runs" / "svhn"
    used = snapshot_at(root)
    done(world, "prepare", *PREPARE[:2], "--num-folds", 3, "--num-processes", 1)
    of_search = snapshot_at(root)
    done(world, "prepare", *PREPARE[:2], "--num-folds", 4, "--num-processes", 1)
    for run in ("baseline", "other"):
        (root / run / "run.json").unlink()
    (root / "searches" / "one").mkdir(parents=True)
    (root / "searches" / "one" / "search.json").write_text(json.dumps({"snapshot": of_search.name}))
    both = run_command(world, "prepare", "--prune", "--list")
    assert (both.code, both.err) == (2, "error: --list: cannot be combined with --prune\n")
    listed = done(world, "prepare", "--list").out
    assert "(search one)" in listed
    assert "(run baseline, run other)" in listed
    assert {entry.folder.name for entry in shelf(root, "")} >= {used.name, of_search.name}
