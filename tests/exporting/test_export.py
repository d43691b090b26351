"""export: files that answer as predict does, the example that uses one, and what is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from src.core import modules
from src.core.errors import InputError
from src.exporting import files
from src.exporting.card import _start, _weights_licence
from src.exporting.quantized import compared
from src.inference.ensemble import out_of_fold
from src.inference.onnx_runtime import INPUT, check_bytes, is_installed, open_session
from tests.helpers import run_at
from tests.world import done, refused, run_command

needs_onnx = pytest.mark.skipif(not is_installed(), reason="requirements-export.txt is not installed")
ROOT = Path(__file__).resolve().parents[2]


def predicted(world: Path, name: str = "baseline") -> np.ndarray:
    """Return the probabilities of the submission, for the test images in order."""
    with np.load(world / "submissions" / "svhn" / f"{name}.npz") as kept:
        array: np.ndarray = kept["probabilities"]
        return array


@pytest.mark.slow
def test_a_torch_file_with_views_answers_as_predict(world: Path) -> None:
    done(world, "export", "--format", "torch", "--tta")
    folder, run = world / "runs" / "svhn" / "baseline" / "export", run_at(world / "runs" / "svhn" / "baseline")
    note = json.loads((folder / "model.json").read_text())
    assert note["files"]["model.pt2"]["largest_difference"] < 1e-4
    assert note["views"] == ["original", "left", "right", "zoom in", "zoom out"]
    test = run.prepared.cache("test")
    paths = [f"mchar_test_a/{i:06d}.png" for i in range(3)]
    found = files.answers_of_torch(
        (folder / "model.pt2").read_bytes(), _loader(test.images[test.rows_of(paths)], run.begun.model.image_size)
    )
    np.testing.assert_allclose(found, predicted(world), atol=1e-4)
    card = (folder / "MODEL_CARD.md").read_text()
    for text in (
        "Out-of-fold string accuracy: ",
        "Wilson",
        "fold 1: ",
        "## Limits",
        "## Licences",
        "torch.export.load",
    ):
        assert text in card, text


def _loader(images: np.ndarray, size: tuple[int, int]) -> files.Loader:
    targets = np.zeros((len(images), 0), np.int64)
    return files.Loader(images=images, rows=np.arange(len(images)), targets=targets, image_size=size, batch_size=256)


def test_a_file_that_answers_otherwise_is_not_written(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "answers_of_torch", lambda data, loader: np.full((len(loader.rows), 66), 0.5))
    refused(run_command(world, "export", "--format", "torch", "--folds", 0), "model.pt2: differs by ", "from predict")
    assert not list((world / "runs" / "svhn" / "baseline" / "export").glob("model*"))


def test_files_of_an_earlier_export_are_deleted(world: Path) -> None:
    folder = world / "runs" / "svhn" / "baseline" / "export"
    folder.mkdir()
    (folder / "model_int8.onnx").write_bytes(b"old")
    done(world, "export", "--format", "torch", "--folds", 0)
    assert sorted(path.name for path in folder.glob("model*")) == ["model.json", "model.pt2"]


def test_more_than_two_gigabytes_are_refused_before_the_export() -> None:
    with pytest.raises(InputError, match=r"weights take 3.6 GB, and an ONNX file holds 2; use --format torch"):
        check_bytes(nn.Linear(30_000, 30_000, device="meta"), "use --format torch")


def test_the_card_knows_which_weights_are_timms(world: Path) -> None:
    record = run_at(world / "runs" / "svhn" / "baseline").begun
    pretrained = replace(record, train=replace(record.train, pretrained=True))
    assert _start(pretrained) == "nothing"  # string_cnn has none
    tagged = replace(pretrained, model=replace(record.model, backbone="resnet50.fb_swsl_ig1b_ft_in1k"))
    assert _start(tagged) == "pretrained weights of timm"
    assert _weights_licence(tagged) == "cc-by-nc-4.0"


def test_what_cannot_be_exported_is_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run_command(world, "export", "--format", "torch", "--quantize", "int8"), "--quantize int8: ")
    monkeypatch.setattr(modules.importlib.util, "find_spec", lambda name: None)
    refused(run_command(world, "export"), "onnx, onnxruntime, onnxscript not installed", "-r requirements-export.txt")


def test_equal_predictions_have_no_loss(world: Path) -> None:
    oof = out_of_fold(run_at(world / "runs" / "svhn" / "baseline"))
    loss = compared(oof, oof)
    assert (loss.change, loss.interval) == (0, (0, 0))


@needs_onnx
@pytest.mark.slow
def test_onnx_files_answer_as_predict_and_the_example_needs_nothing_else(world: Path) -> None:
    done(world, "predict", "--no-tta")
    done(world, "export", "--format", "both", "--quantize", "int8")
    folder = world / "runs" / "svhn" / "baseline" / "export"
    note = json.loads((folder / "model.json").read_text())
    assert set(note["files"]) == {"model.onnx", "model_int8.onnx", "model.pt2"}
    assert note["files"]["model_int8.onnx"]["images_scored"] == 18
    assert note["files"]["model_int8.onnx"]["bytes"] < 0.5 * note["files"]["model.onnx"]["bytes"]
    session = open_session(folder / "model.onnx")
    outputs = session.run(None, {INPUT: np.zeros((1, 32, 48, 3), np.uint8)})  # a batch of one
    assert [output.shape for output in outputs] == [(1, 11)] * 6
    images = [str(world / "input" / "svhn" / "mchar_test_a" / f"{i:06d}.png") for i in range(3)]
    script = f"import runpy, sys; sys.argv[1:] = {[str(folder / 'model.onnx'), *images]!r}; "
    script += f"runpy.run_path({str(ROOT / 'examples' / 'use_onnx.py')!r}, run_name='__main__'); "
    script += "assert not {'torch', 'src', 'onnx'} & set(sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=world)
    lines = ended.stdout.splitlines()
    assert len(lines) == 18
    for line, row in zip(lines, predicted(world).reshape(18, 11), strict=True):
        assert abs(float(line.split(": ")[1].split(",")[0].rpartition(" ")[2]) - row.max()) < 1e-3, line


@needs_onnx
@pytest.mark.slow
def test_predict_by_onnx_runtime_gives_the_same_probabilities_and_says_so(world: Path) -> None:
    expected = predicted(world)
    ended = done(world, "predict", "--engine", "onnx")
    assert "predicting with ONNX Runtime" in ended.out
    np.testing.assert_allclose(predicted(world), expected, atol=1e-4)
    note = json.loads((world / "submissions" / "svhn" / "baseline.json").read_text())
    assert [fold["engine"] for fold in note["runs"][0]["folds"]] == ["onnx", "onnx"]
    done(world, "predict", "--engine", "onnx")  # kept predictions say it too
    again = json.loads((world / "submissions" / "svhn" / "baseline.json").read_text())
    assert again["runs"] == note["runs"]
    done(world, "predict", "--engine", "torch")
    assert np.array_equal(predicted(world), expected)


@needs_onnx
def test_engines_that_do_not_go_together_are_refused(world: Path) -> None:
    refused(run_command(world, "predict", "--engine", "onnx", "--precision", "bf16"), "--engine onnx: runs on a CPU")
