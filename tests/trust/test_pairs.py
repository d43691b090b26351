"""Two commands at once on one competition: neither harms the other, and the results are consistent."""

import itertools
import json
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from src.checkup.integrity import check_integrity
from src.config import DoctorConfig
from tests.trust.conftest import Commands
from tests.world import FLAGS, PREPARE, done, link

CALLS: dict[str, tuple[object, ...]] = {
    "prepare": ("prepare", *PREPARE),  # finds other labels, or the old ones again
    "prune": ("prepare", "--competition", "svhn", "--prune"),
    "train": ("train", *FLAGS),  # fold 1 is not trained yet, unless blend needs it
    "restart": ("train", *FLAGS, "--seed", 4, "--restart"),
    "evaluate": ("evaluate", "--folds", 0),
    "predict": ("predict",),
    "blend": ("blend", "--run-name", "baseline", "other", "--rounds", 2, "--outer-folds", 2, "--name", "baseline"),
    "doctor": ("doctor", "--deep", "--backbone", "string_cnn"),
}
PAIRS = list(itertools.combinations_with_replacement(CALLS, 2))


def relabel(world: Path, digit: int) -> None:
    path = world / "input" / "svhn" / "mchar_train.json"
    labels = json.loads(path.read_text())
    labels["000000.png"] |= {"label": [digit], **{key: [1] for key in ("left", "top", "width", "height")}}
    path.unlink()
    path.write_text(json.dumps(labels))


def check_left(world: Path, ended: list[tuple[str, int, str]], known: dict[str, str]) -> None:
    """Fail unless both commands ended well or in one line, and all that is left is whole and fits together."""
    for name, code, err in ended:
        assert code in (0, 1 if name == "doctor" else 0, 2), (name, code, err)
        assert err.count("\n") == (code == 2), (name, code, err)
    config = DoctorConfig(runs_dir=world / "runs", submissions_dir=world / "submissions", input_dir=world / "input")
    found = [finding for finding in check_integrity(config) if finding.kind != "ok"]
    assert not found, (ended, found)
    assert not list(world.rglob("*.tmp")), ended
    # Of the same weights there is one set of answers.
    note = json.loads((world / "submissions/svhn/baseline.json").read_text())
    key = json.dumps([[run["run_id"], run["weight"], run["folds"]] for run in note["runs"]])
    assert known.setdefault(key, note["sha256"]) == note["sha256"], ended


@pytest.mark.parametrize("count", [pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_commands_at_once_do_no_harm(
    finished_world: Path,
    tmp_path: Path,
    server: "subprocess.Popen[str]",
    second_server: "subprocess.Popen[str]",
    figure: Callable[[str], None],
    pair: tuple[str, str],
    count: int,
) -> None:
    rng, outcomes, known = random.Random(str(pair)), Counter[str](), dict[str, str]()
    for attempt in range(count):
        world = link(finished_world, tmp_path / str(attempt))
        if "blend" not in pair:
            shutil.rmtree(world / "runs/svhn/baseline/fold1")
        relabel(world, 3)
        done(world, "prepare", *PREPARE[:2], "--num-folds", 3)  # something to prune
        relabel(world, attempt % 10)
        first, second = Commands(world, server, "1"), Commands(world, second_server, "2")
        first.start(*CALLS[pair[0]])
        time.sleep(rng.uniform(0, 0.6))
        second.start(*CALLS[pair[1]])
        codes = [first.ended(), second.ended()]
        check_left(world, [(pair[0], codes[0], first.err), (pair[1], codes[1], second.err)], known)
        outcomes["both done" if not any(codes) else "one waits in one line"] += 1
        shutil.rmtree(world)
    figure(f"{pair[0]} and {pair[1]} at once: {', '.join(f'{number} {kind}' for kind, number in outcomes.items())}")


@pytest.mark.parametrize("pair", [("restart", "predict"), ("prepare", "train"), ("predict", "predict")], ids="+".join)
def test_two_commands_at_once_do_no_harm_briefly(
    finished_world: Path,
    tmp_path: Path,
    server: "subprocess.Popen[str]",
    second_server: "subprocess.Popen[str]",
    figure: Callable[[str], None],
    pair: tuple[str, str],
) -> None:
    test_two_commands_at_once_do_no_harm(finished_world, tmp_path, server, second_server, figure, pair, 1)
