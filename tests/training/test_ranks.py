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
import timm
import torch

from src.core.world import World
from src.inference.autotune import has_compiler
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import feature_files, run_at
from tests.ranks import FLAGS, NETWORK, difference, environment, start, train, weights


@pytest.fixture
def prepared(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Path:
    """Return a folder with a prepared tiny svhn and a network without batch statistics."""
    svhn(num_train=60, num_val=9, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    (tmp_path / "plain.py").write_text(NETWORK)
    return tmp_path


@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, 65])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_parts_of_a_batch_make_it_up_and_keep_mixed_pairs_together(count: int, size: int) -> None:
    whole = np.random.default_rng(count).permutation(1000)[:count]
    partner = dict(zip(whole, whole[::-1], strict=True))
    parts = [whole[World(rank, size).share_of(count, rank)] for rank in range(size)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    for part in parts:
        assert [partner[row] for row in part] == list(part[::-1])
    assert max(map(len, parts)) - min(map(len, parts)) <= 3
    assert min(map(len, parts)) >= World(0, size).smallest_share(count) >= min(map(len, parts)) - count % 2


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_ranks_come_to_the_weights_and_scores_of_one(prepared: Path, podium: Podium, ranks: int) -> None:
    assert podium("train", *FLAGS, "--run-name", "one").code == 0
    out = train(prepared, ranks, *FLAGS, "--run-name", "several")
    assert difference(prepared, "one", "several") < 1e-5
    assert out.count("SHA-256 of the weights") == 1  # rank 0 alone prints
    results = [run_at(prepared / "runs" / "svhn" / name).trained()[0] for name in ("one", "several")]
    assert results[0].result.score == results[1].result.score
    oofs = [fold.oof() for fold in results]
    assert np.array_equal(oofs[1]["image_path"], oofs[0]["image_path"])
    assert np.abs(oofs[1]["probabilities_tta"] - oofs[0]["probabilities_tta"]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--backbone", "string_cnn", "--sync-batch-norm", "--optimizer", "sgd", "--lr", "0.01",
         "--epochs", "2"),
        ("--backbone", "string_cnn", "--sync-batch-norm", "--optimizer", "sgd", "--lr", "0.01", "--accumulate", "2",
         "--batch-size", "16", "--epochs", "3"),
        ("--progressive-resize", "0.5", "--augment.concat", "0.6", "--cache-on-device", "on"),
        ("--backbone", "resnet10t", "--no-pretrained", "--freeze-backbone", "--mixup", "0", "--weights", "resnet.pth"),
    ],
)  # fmt: skip
def test_two_and_three_ranks_agree(prepared: Path, flags: tuple[str, ...]) -> None:
    network = timm.create_model("resnet10t", num_classes=11)
    torch.save(network.state_dict(), prepared / "resnet.pth")
    for ranks in (1, 2, 3):
        train(prepared, ranks, *FLAGS, *flags, "--run-name", f"run{ranks}")
        for path in feature_files(prepared / "runs" / "svhn"):
            path.unlink()  # otherwise the next ranks read what these have computed
    assert difference(prepared, "run2", "run3") < 1e-4
    if "--accumulate" not in flags:  # one process normalises each micro-batch by itself
        assert difference(prepared, "run1", "run2") < (1e-3 if "--sync-batch-norm" in flags else 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
def test_compiled_ranks_come_to_the_weights_of_one(prepared: Path) -> None:
    for ranks in (1, 2):
        train(prepared, ranks, *FLAGS, "--compile", "--dropout", "0", "--epochs", "2", "--run-name", f"run{ranks}")
    assert difference(prepared, "run1", "run2") < 1e-5


@pytest.mark.slow
def test_ranks_that_train_alike_end_alike(prepared: Path) -> None:
    """With batch norm of each rank's own, weights differ from those of one process, and not from run to run."""
    for name in ("run", "again"):
        train(prepared, 2, *FLAGS, "--backbone", "string_cnn", "--run-name", name)
    assert difference(prepared, "run", "again") == 0


@pytest.mark.slow
def test_ranks_bench_and_predict_and_blend_together(prepared: Path) -> None:
    bench = train(prepared, 2, "--backbone", "string_cnn", "--steps", "3", "--batch-size", "8", command="bench")
    assert "2 ranks, each cpu" in bench
    assert bench.count("images/s") == 4
    for name in ("one", "other"):
        train(prepared, 1, *FLAGS, "--fold", "all", "--seed", str(len(name)), "--run-name", name)
    found = {}
    for ranks in (1, 2, 3):
        for path in (prepared / "runs").rglob("test.npz"):
            path.unlink()
        fixed = ("--batch-size", "256", "--compile", "off")
        out = train(prepared, ranks, "--run-name", "one", *fixed, command="predict")
        assert out.count("validated against the sample submission") == 1
        train(prepared, ranks, "--run-name", "one", "other", *fixed, command="blend")
        found[ranks] = [np.load(path)["probabilities"] for path in sorted((prepared / "submissions").rglob("*.npz"))]
    assert len(found[1]) == 2
    for ranks in (2, 3):
        assert all(np.array_equal(one, several) for one, several in zip(found[1], found[ranks], strict=True))


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
    process = start(prepared, 2, *flags, "--run-name", "stopped", launch=("--standalone", "--redirects", "0"))
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
    ended = subprocess.run(
        [sys.executable, *launch, "bash", str(script)],
        cwd=prepared,
        env=environment(),
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
    assert "error: --batch-size 3; 2 ranks with 1 micro-batches each need at least 4" in err
