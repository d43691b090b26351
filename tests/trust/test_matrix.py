"""Every file that commands write × every damage × every command: repaired, refused in one line, or harmless.

A command that ends with success must have come to the very result that it comes to with undamaged files.
"""

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import snapshot_at
from tests.world import FLAGS, PREPARE, done, link, run_command

COMMANDS: dict[str, tuple[object, ...]] = {
    "prepare": PREPARE,
    "train": FLAGS,
    "evaluate": (),
    "predict": (),
    "blend": ("--run-name", "baseline", "other", "--rounds", 3, "--outer-folds", 2),
    "doctor": ("--deep", "--backbone", "string_cnn"),
}
DAMAGES = ("truncated", "zero-filled", "deleted", "edited", "older", "another fold's", "another run's")
# What a command's success is judged by; prepare by its snapshot and caches, doctor by telling every loss. report.html
# also shows what is there of logs, test predictions and saliency, and says what is not.
RESULTS = {
    "evaluate": (
        "baseline/evaluation/scores.json",
        "baseline/evaluation/suspects.csv",
        "baseline/evaluation/worst.csv",
    ),
    "train": tuple(f"baseline/fold{k}/{name}" for k in (0, 1) for name in ("last.safetensors", "oof.npz")),
    "predict": ("baseline.csv", "baseline.npz"),
    "blend": ("blend.csv", "blend.npz"),
}


@pytest.fixture(scope="module")
def older(finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an earlier state of the same work: other labels, other weights, the same names of runs and folds."""
    folder = link(finished_world / "input", tmp_path_factory.mktemp("older") / "input").parent
    path = folder / "input/svhn/mchar_train.json"
    labels = json.loads(path.read_text())
    labels["000000.png"] |= {key: [1] for key in ("label", "left", "top", "width", "height")}
    path.unlink()
    path.write_text(json.dumps(labels))
    done(folder, "prepare", *PREPARE)
    for run, seed in (("baseline", 5), ("other", 6)):
        done(folder, "train", *FLAGS, "--run-name", run, "--seed", seed)
        done(folder, "evaluate", "--run-name", run)
        done(folder, "predict", "--run-name", run)
    return folder


def content(world: Path, name: str) -> bytes:
    path = world / ("runs/svhn" if "/" in name else "submissions/svhn") / name
    return path.read_bytes() if path.exists() else b""


def written(world: Path) -> list[Path]:
    """Return the files below runs/ that can be damaged, relative to the world."""
    found = (path for path in (world / "runs").rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(world) for path in found)


def edited(path: Path) -> bytes:
    """Return a file changed so that its format is still right, as people and disks do it."""
    data = path.read_bytes()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            kept = dict(arrays)
        for name in kept:
            if name.startswith("probabilities") and kept[name].ndim == 2:
                kept[name] = kept[name][::-1]
            if name == "sizes":  # of a cache's originals
                kept[name] = kept[name] + 1
        target = path.with_suffix(".edited.npz")
        np.savez(target, **kept)
        changed = target.read_bytes()
        target.unlink()
        return changed
    if path.suffix in (".json", ".csv", ".html", ".sha256"):
        text = data.decode()
        number = re.search(r"[0-9]+(?=[,\]}\n\r\"])", text)  # a whole number becomes another one
        if number is None:
            return (text + "\n").encode()
        return (text[: number.start()] + str((int(number[0]) + 1) % 9) + text[number.end() :]).encode()
    flipped = bytearray(data)
    flipped[len(flipped) // 2] ^= 1
    return bytes(flipped)


def counterpart(path: Path, damage: str) -> Path:
    """Return the file that is put in another one's place, relative to the world."""
    text = str(path)
    if damage == "another fold's":
        return Path(text.replace("fold0", "fold1") if "fold0" in text else text.replace("fold1", "fold0"))
    if damage == "another run's":
        return Path(
            text.replace("/baseline/", "/other/") if "/baseline/" in text else text.replace("other", "baseline")
        )
    return path


def damaged(world: Path, older: Path, path: Path, damage: str) -> bytes | None:
    """Return the damaged contents of a file (empty if it is deleted), or None if the damage does not apply."""
    data = (world / path).read_bytes()
    if damage == "truncated":
        return data[: len(data) // 2]
    if damage == "zero-filled":
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    if damage == "deleted":
        return b""
    if damage == "edited":
        return edited(world / path)
    source = (older if damage == "older" else world) / counterpart(path, damage)
    if damage == "older" and path.parts[2] in ("prepared", "cache") and path.name != "current.json":
        source = older_of(older, world, path)
    return source.read_bytes() if source.is_file() and source.read_bytes() != data else None


def older_of(older: Path, world: Path, path: Path) -> Path:
    """Return the older file of the same role: ids and hashes in names differ."""
    if path.parts[2] == "prepared":
        return snapshot_at(older / "runs/svhn") / path.name
    prefix = path.name.rsplit("_", 1)[0]
    return [*(older / path.parent).glob(f"{prefix}_*{path.suffix}"), Path("none")][0]


def verdict(world: Path, intact: Path, path: Path, command: str) -> str:
    """Run a command on a damaged world; return "repaired", "refused" or "harmless". Fails for anything else."""
    expected = {name: content(intact, name) for name in RESULTS.get(command, ())}
    ended = run_command(world, command, *COMMANDS[command])
    same = (world / path).is_file() and (world / path).read_bytes() == (intact / path).read_bytes()
    where = f"{path} with {command}: {ended}"
    if command == "doctor" and ended.code == 1:
        assert "bad " in ended.out, where
        return "refused"
    if ended.code:
        assert ended.code == 2, where
        assert ended.err.count("\n") == 1, where
        assert ended.err.startswith("error: "), where
        return "refused"
    assert not ended.err, where
    for name, before in expected.items():
        assert content(world, name) == before, f"{where}: {name} differs"
    if command == "prepare":
        root = world / "runs/svhn"
        assert snapshot_at(root).name == snapshot_at(intact / "runs/svhn").name, where
        for file in [*snapshot_at(root).iterdir(), *(root / "cache").glob("t*.npy")]:
            assert file.read_bytes() == (intact / file.relative_to(world)).read_bytes(), where
    return "repaired" if same else "harmless"


def unused(path: Path) -> bool:
    """Return whether no command reads a file: logs and reports for people, and what is derived again."""
    return path.name in ("log.csv", "problems.csv") or "evaluation" in path.parts


Cell = tuple[Path, str, str]


def cells(world: Path, older: Path) -> list[Cell]:
    """Return every file, damage and command; files of fold 1 and of the other run stand for the same as theirs."""
    return [
        (path, damage, command)
        for path in written(world)
        for damage in DAMAGES
        for command in COMMANDS
        if damaged(world, older, path, damage) is not None
    ]


@pytest.mark.parametrize("count", [40, pytest.param(None, marks=pytest.mark.slow)])
def test_no_damaged_file_is_ever_used_silently(
    finished_world: Path,
    older: Path,
    tmp_path: Path,
    figure: Callable[[str], None],
    count: int | None,
) -> None:
    world, found = tmp_path / "world", Counter[str]()
    chosen = cells(finished_world, older)
    if count:
        chosen = random.Random(0).sample(chosen, count)
    failures = []
    for path, damage, command in chosen:
        shutil.rmtree(world, ignore_errors=True)
        link(finished_world, world)
        data = damaged(finished_world, older, path, damage)
        (world / path).unlink()
        if damage != "deleted":
            assert data is not None
            (world / path).write_bytes(data)
        try:
            outcome = verdict(world, finished_world, path, command)
        except AssertionError as error:
            failures.append(f"{damage}: {str(error)[:600]}")
            continue
        found[f"{outcome}{' (nothing reads it)' if outcome == 'harmless' and unused(path) else ''}"] += 1
    assert not failures, "\n".join(failures)
    counts = ", ".join(f"{number} {kind}" for kind, number in found.most_common())
    figure(f"damaged files: {len(chosen)} cells of file × damage × command: {counts}; 0 used silently")
