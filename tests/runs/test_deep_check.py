"""The deep check of a run's files, and what works beside a damaged one."""

import shutil
from pathlib import Path

from src.core.records import read_record
from src.data.snapshot import Current
from tests.helpers import prepared_at, snapshot_at
from tests.runs.test_lost_records import named_command
from tests.world import PREPARE, done, fold_of, run_command


def bad_lines(world: Path) -> list[str]:
    ended = run_command(world, "doctor", "--deep", "--backbone", "string_cnn")
    assert "Traceback" not in ended.err
    lines = [line.removeprefix("bad   ") for line in ended.out.splitlines() if line.startswith("bad ")]
    assert (ended.code == 1) == bool(lines)
    return lines


def test_a_deep_check_names_every_damage_and_goes_on(world: Path) -> None:
    assert bad_lines(world) == []
    root, prepared = world / "runs" / "svhn", prepared_at(world / "runs" / "svhn")
    cache = prepared.cache_file("test", (64, 128))
    for path in (fold_of(world, 1) / "fold.json", fold_of(world, 0, "other") / "last.pt", cache):
        path.unlink()
    (fold_of(world, 1) / "fold.json").write_text("{")
    other = fold_of(world, 1, "other")
    for name in ("last.pt", "last.pt.sha256"):
        (fold_of(world, 0, "other") / name).unlink(missing_ok=True)
        shutil.copy(other / name, fold_of(world, 0, "other") / name)
    (fold_of(world, 0, "other") / "previous_last.pt").unlink(missing_ok=True)
    (root / "baseline" / "restart").mkdir()
    (root / "baseline" / "restart" / "complete").write_text("")
    path = world / "submissions" / "svhn" / "baseline.csv"
    text = path.read_text()
    path.unlink()
    path.write_text(text[:-3])
    lines = "\n".join(bad_lines(world))
    for words in (
        "baseline/fold1/fold.json: is damaged",
        "other/fold0/last.pt: is damaged or of another training",
        f"{cache.name}: not there; run python -m src.prepare --competition svhn --num-folds 2 --image-size 64 128",
        "--restart was stopped while it moved its folds",
        "baseline.csv: is not the file that baseline.json describes",
    ):
        assert words in lines


def test_the_command_that_a_deep_check_names_makes_a_cache_again(world: Path) -> None:
    root = world / "runs" / "svhn"
    done(world, "prepare", *PREPARE, "--image-size", 24, 40)
    path = prepared_at(root).cache_file("train", (24, 40))
    intact, before = path.read_bytes(), snapshot_at(root)
    path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    (line,) = bad_lines(world)
    done(world, *named_command(line))
    assert path.read_bytes() == intact
    assert snapshot_at(root) == before
    current = read_record(root / "prepared" / "current.json", Current, "", "")
    assert current.image_size == (24, 40)


def test_one_damaged_fold_does_not_stop_what_does_not_need_it(world: Path) -> None:
    path = fold_of(world, 1) / "fold.json"
    path.unlink()
    path.write_text("{")
    done(world, "predict", "--folds", 0)
    done(world, "evaluate", "--folds", 0)
    assert "run baseline" in done(world, "prepare", "--list").out
    done(world, "prepare", "--prune")
