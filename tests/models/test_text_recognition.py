"""The text recogniser: its dynamic programming, and a run that starts from a tiny one in an ONNX file."""

import itertools
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.competitions.registry import load_competition
from src.models.text_recognition import string_probabilities
from src.planning.recipes import recipes_for
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import run_at
from tests.world import run_command

POSITIONS, COLUMNS, CHARACTERS = 3, 5, 2


def by_counting(columns: torch.Tensor) -> torch.Tensor:
    """Return (P, C + 1): sum over all paths what each reads; columns (T, 1 + C)."""
    read = torch.zeros(POSITIONS, CHARACTERS + 1)
    for path in itertools.product(range(CHARACTERS + 1), repeat=COLUMNS):
        share = torch.stack([columns[number, symbol] for number, symbol in enumerate(path)]).prod()
        text = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        for position in range(POSITIONS):
            read[position, text[position] - 1 if position < len(text) else CHARACTERS] += share
    return read


def test_strings_have_the_probabilities_that_counting_all_paths_gives() -> None:
    columns = torch.randn(4, COLUMNS, CHARACTERS + 1, generator=torch.Generator().manual_seed(0)).softmax(2)
    found = string_probabilities(columns, POSITIONS)
    for one, expected in zip(found, columns, strict=True):
        torch.testing.assert_close(one, by_counting(expected), atol=1e-6, rtol=0)


def test_certain_columns_read_their_text_and_have_a_finite_gradient() -> None:
    text = torch.tensor([[1, 1, 0, 1, 2]])  # "a", then after a blank "a" again, then "b"
    logits = (30.0 * torch.nn.functional.one_hot(text, CHARACTERS + 1)).requires_grad_()
    found = string_probabilities(logits.softmax(2), POSITIONS)
    assert found.argmax(2).tolist() == [[0, 0, 1]]
    found.clamp(min=1e-6).log().sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


KNOWN = "x9876543210"  # the recogniser's own order of characters


@pytest.fixture
def recogniser(tmp_path: Path) -> Path:
    """Return the file of a recogniser with columns of eight pixels, random weights and its list of characters."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    helper, rng = onnx.helper, np.random.default_rng(0)
    arrays = {
        "k": rng.normal(size=(8, 3, 1, 1)),
        "w": rng.normal(size=(8, 1 + len(KNOWN))),
        "b": np.zeros(1 + len(KNOWN)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["convolved"], kernel_shape=[48, 8], strides=[48, 8]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("Squeeze", ["active", "axis"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["columns", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "b"], ["biased"]),
        helper.make_node("Softmax", ["biased"], ["y"], axis=2),
    ]
    values = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    values.append(onnx.numpy_helper.from_array(np.array([2]), "axis"))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    entry = model.metadata_props.add()
    entry.key, entry.value = "character", "\n".join(KNOWN)
    path = tmp_path / "tiny.onnx"
    onnx.save(model, path)
    return path


TRAIN = ("train", "--backbone", "text_recognition", "--image-size", 48, 64, "--batch-size", 4, "--epochs", 2)


def test_a_run_starts_from_a_recogniser_and_keeps_its_file(
    svhn: MakeSvhn, podium: Podium, recogniser: Path, tmp_path: Path
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2, "--num-processes", 1, "--image-size", 48, 64).code == 0
    code, out, err = podium(*TRAIN, "--weights", recogniser, "--fold", 0)
    assert code == 0, err
    run = run_at(tmp_path / "runs/svhn/baseline")
    assert run.weights_copy().read_bytes() == recogniser.read_bytes()
    network = run.load_network(run.trained((0,))[0])
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) > 8 * 11  # its trunk learns too
    recogniser.unlink()
    assert podium("predict").code == 0
    code, out, err = podium(*TRAIN, "--weights", recogniser, "--fold", 0, "--resume")
    assert code == 0, err
    assert podium("doctor").code == 0
    run.weights_copy().write_bytes(b"another")
    (tmp_path / "runs/svhn/baseline/fold0/test.npz").unlink()
    refused = podium("predict")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "tiny.onnx: is not the file that this run began with" in refused.err


def test_what_is_no_recogniser_is_refused(svhn: MakeSvhn, podium: Podium, recogniser: Path) -> None:
    svhn(num_train=12, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2, "--num-processes", 1, "--image-size", 48, 64).code == 0
    broken = recogniser.with_name("broken.onnx")
    broken.write_bytes(b"\x00 nothing of the kind")
    onnx, other = pytest.importorskip("onnx"), recogniser.with_name("other.onnx")
    model = onnx.load(recogniser)
    model.graph.node[5].op_type = "Sub"  # where the bias is added
    onnx.save(model, other)
    for flags, message in (
        ((), "needs a recogniser's ONNX file: --weights FILE.onnx of train"),
        (("--weights", broken), "broken.onnx: is not an ONNX file"),
        (("--weights", other), "other.onnx: is not a text recogniser that ends in MatMul and Add"),
        (("--weights", recogniser, "--backbone-options", "characters=012345678Z"), "does not know 'Z'"),
        (("--weights", recogniser, "--backbone-options", "characters=012"), "a head of 11 classes needs 10 characters"),
        (("--weights", recogniser, "--backbone-options", "weights_file=a"), "decided by the competition or by another"),
    ):
        refused = podium(*TRAIN, *flags, "--fold", 0)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert message in refused.err


def test_auto_starts_from_a_recogniser(
    svhn: MakeSvhn, recogniser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn(num_train=12, num_val=6, num_test=3)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ended = run_command(tmp_path, command[2].removeprefix("src."), *command[3:])
        return subprocess.CompletedProcess(command, ended.code, ended.out, ended.err)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("src.planning.looking.MAX_SECONDS", 0.01)
    short = replace(recipes_for(load_competition("svhn"), 64, "texts")[0], max_epochs=1)
    monkeypatch.setattr("src.planning.recipes.RECIPES", (replace(short, flags=short.flags | {"batch_size": "4"}),))
    ended = run_command(tmp_path, "auto", "--minutes", 5, "--weights", recogniser)
    assert ended.code == 0, ended.err
    assert "a text recogniser's" in (tmp_path / "runs/svhn/auto.json").read_text()
    assert "--backbone text_recognition" in (tmp_path / "runs/svhn/auto.sh").read_text()
    assert (tmp_path / "submissions/svhn/auto.csv").is_file()
