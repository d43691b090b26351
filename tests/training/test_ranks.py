"""Several processes that torchrun starts train one network: the same samples, nearly the same weights, one writer."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as read_weights

from src.core.world import World
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import run_at

ROOT = Path(__file__).resolve().parents[2]
NETWORK = """
from timm.models import register_model
from torch import nn


@register_model
def plain(pretrained=False, **kwargs):
    body = [nn.Conv2d(kwargs["in_chans"], 16, 5, stride=4), nn.GELU(), nn.Conv2d(16, 32, 3, stride=2), nn.GELU()]
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.add_module("head", nn.Linear(32, kwargs["num_classes"]))
    return network
"""
FLAGS = ("--backbone", "plain.py", "--no-pretrained", "--image-size", "32", "48", "--batch-size", "8", "--fold", "0",
         "--epochs", "13", "--mixup", "0.2", "--lr", "0.003")  # 4 steps an epoch, 52 in all  # fmt: skip


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    """Return a folder with a prepared tiny svhn and a network without batch statistics."""
    svhn(num_train=60, num_val=9, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    (tmp_path / "plain.py").write_text(NETWORK)
    return tmp_path


def start(cwd: Path, ranks: int, *flags: str, more: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Start torchrun, or one process."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *more] if ranks > 1 else []
    command = [sys.executable, *launch, "-m", "src.train", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def train(cwd: Path, ranks: int, *flags: str) -> str:
    """Train to the end; return what was printed."""
    process = start(cwd, ranks, *flags)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-3000:]
    return out


def weights(cwd: Path, name: str) -> dict[str, torch.Tensor]:
    return read_weights(cwd / "runs" / "svhn" / name / "fold0" / "last.safetensors")


@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, 65])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_parts_of_a_batch_make_it_up_and_keep_mixed_pairs_together(count: int, size: int) -> None:
    whole = np.random.default_rng(count).permutation(1000)[:count]
    partner = dict(zip(whole, whole[::-1], strict=True))
    parts = [World(rank, size).share(whole) for rank in range(size)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    for part in parts:
        assert [partner[row] for row in part] == list(part[::-1])
    assert max(map(len, parts)) - min(map(len, parts)) <= 3


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_ranks_come_to_the_weights_and_scores_of_one(prepared: Path, podium: Podium, ranks: int) -> None:
    assert podium("train", *FLAGS, "--run-name", "one").code == 0
    out = train(prepared, ranks, *FLAGS, "--run-name", "several")
    one, found = weights(prepared, "one"), weights(prepared, "several")
    assert max((found[name] - one[name]).abs().max().item() for name in one) < 1e-5
    assert out.count("SHA-256 of the weights") == 1  # rank 0 alone prints
    results = [run_at(prepared / "runs" / "svhn" / name).trained()[0] for name in ("one", "several")]
    assert results[0].result.score == results[1].result.score
    oofs = [fold.oof() for fold in results]
    assert np.array_equal(oofs[1]["image_path"], oofs[0]["image_path"])
    assert np.abs(oofs[1]["probabilities_tta"] - oofs[0]["probabilities_tta"]).max() < 1e-4


@pytest.mark.slow
def test_predictions_of_given_weights_are_the_same_for_any_number_of_ranks(prepared: Path) -> None:
    train(prepared, 1, *FLAGS, "--run-name", "run")
    path = prepared / "runs" / "svhn" / "run" / "fold0" / "oof.npz"
    expected = np.load(path)["probabilities_tta"].copy()
    for ranks in (2, 3):
        path.unlink()
        assert "is missing or damaged, and is made again" in train(prepared, ranks, *FLAGS, "--run-name", "run")
        assert np.array_equal(np.load(path)["probabilities_tta"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_signal_to_any_rank_saves_the_step_and_the_same_command_resumes_identically(
    prepared: Path, victim: int
) -> None:
    flags = (*FLAGS, "--backbone", "string_cnn", "--epochs", "30")
    train(prepared, 2, *flags, "--run-name", "straight")
    process = start(prepared, 2, *flags, "--run-name", "stopped", more=("--log-dir", "logs", "--redirects", "0"))
    state = prepared / "runs" / "svhn" / "stopped" / "fold0" / "last.pt"
    while not state.exists():
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(sorted(children, key=int)[victim]), signal.SIGTERM)
    process.communicate(timeout=60)
    out = train(prepared, 2, *flags, "--run-name", "stopped")
    assert re.search(r"resumes after epoch \d+, step \d+", out)
    straight, stopped = weights(prepared, "straight"), weights(prepared, "stopped")
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)


@pytest.mark.slow
def test_another_number_of_ranks_resumes_and_says_what_changes(prepared: Path) -> None:
    process = start(prepared, 1, *FLAGS, "--epochs", "60", "--run-name", "run")
    state = prepared / "runs" / "svhn" / "run" / "fold0" / "last.pt"
    while not state.exists():
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)
    out = train(prepared, 2, *FLAGS, "--epochs", "60", "--run-name", "run")
    assert "note: 1 ranks trained until here, 2 from now on" in out


@pytest.mark.slow
def test_ranks_with_other_flags_are_refused_by_name(prepared: Path) -> None:
    script = prepared / "uneven.sh"
    script.write_text(f'exec {sys.executable} -m src.train {" ".join(FLAGS)} --seed "$RANK"\n')
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *launch, "bash", str(script)],
        cwd=prepared,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ended.returncode != 0
    assert ended.stderr.count("error: rank 1 was started differently than rank 0 (seed: 0 here, 1 there)") == 1
    assert "Traceback (most recent call last):\n  File" not in ended.stderr.split("error: rank 1")[0]


@pytest.mark.slow
def test_a_batch_too_small_for_the_ranks_is_one_line(prepared: Path) -> None:
    process = start(prepared, 2, *FLAGS, "--batch-size", "3")
    _, err = process.communicate(timeout=90)
    assert "error: --batch-size 3: 2 ranks with 1 micro-batches each need at least 4" in err
