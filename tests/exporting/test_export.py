"""export: files that answer as predict does, the example that uses one, and what is refused."""

import errno
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from src.core import modules
from src.core.errors import InputError
from src.data.loader import Loader
from src.exporting import card, files, quantized
from src.exporting.card import _start, _weights_licence
from src.exporting.quantized import compared
from src.exporting.subject import open_subject
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
        (folder / "model.pt2").read_bytes(),
        _loader(test.images[test.rows_of(paths)], run.started_record.model.image_size),
    )
    np.testing.assert_allclose(found, predicted(world), atol=1e-4)
    text_of_card = (folder / "MODEL_CARD.md").read_text()
    for text in (
        "Out-of-fold string accuracy: ",
        "Wilson",
        "fold 1: ",
        "## Limits",
        "## Licences",
        "torch.export.load",
    ):
        assert text in text_of_card, text


def _loader(images: np.ndarray, size: tuple[int, int]) -> Loader:
    targets = np.zeros((len(images), 0), np.int64)
    return Loader(images=images, rows=np.arange(len(images)), targets=targets, image_size=size, batch_size=256)


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


def test_an_export_that_fails_late_leaves_the_earlier_one(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*what: object) -> str:
        raise InputError("stopped")

    folder = world / "runs" / "svhn" / "baseline" / "export"
    folder.mkdir()
    earlier = {name: name.encode() for name in (files.NOTE, files.CARD, "model.onnx")}
    for name, data in earlier.items():
        (folder / name).write_bytes(data)
    monkeypatch.setattr(card, "model_card", fail)
    refused(run_command(world, "export", "--format", "torch", "--folds", 0), "stopped")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == earlier


def test_a_killed_write_leaves_neither_an_old_card_nor_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    for name in (files.NOTE, files.CARD, *files.FILES):
        (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(files, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_files(tmp_path, {"model.onnx": files.Made(b"new", {})}, {}, "card")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_full_disk_leaves_the_earlier_export_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.parent.joinpath("model.onnx").exists() and len(list(tmp_path.iterdir())) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(data)

    (tmp_path / "model.onnx").write_bytes(b"old")
    monkeypatch.setattr(files, "write_bytes", full)
    made = {name: files.Made(b"new", {}) for name in ("model.onnx", "model.pt2")}
    with pytest.raises(OSError, match="No space"):
        files.write_files(tmp_path, made, {}, "card")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.onnx", b"old")]


def test_what_cannot_be_quantised_is_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes, loader: Loader) -> np.ndarray:
        raise InputError("ONNX Runtime cannot run this network (ConvInteger)")

    subject = open_subject(run_at(world / "runs" / "svhn" / "baseline"), (0,), False)
    check = files.check_of(subject, 4)
    monkeypatch.setattr(quantized, "int8_bytes", lambda data, channels: b"small")
    monkeypatch.setattr(quantized, "answers_of_onnx", refuse)
    with pytest.raises(InputError, match=r"--quantize int8: ONNX Runtime cannot run this network \(ConvInteger\)$"):
        quantized.in_8_bits(subject, b"", check)
    monkeypatch.setattr(quantized, "answers_of_onnx", lambda data, loader: np.full((4, 66), np.nan))
    with pytest.raises(InputError, match="--quantize int8: .* not finite"):
        quantized.in_8_bits(subject, b"", check)


def test_more_than_two_gigabytes_are_refused_before_the_export() -> None:
    with pytest.raises(InputError, match=r"weights take 3.6 GB, and an ONNX file holds 2; use --format torch"):
        check_bytes(nn.Linear(30_000, 30_000, device="meta"), "use --format torch")


def test_the_card_knows_which_weights_are_timms(world: Path) -> None:
    record = run_at(world / "runs" / "svhn" / "baseline").started_record
    pretrained = replace(record, train=replace(record.train, pretrained=True))
    assert _start(pretrained) == "nothing"  # string_cnn has none
    tagged = replace(pretrained, model=replace(record.model, backbone="resnet50.fb_swsl_ig1b_ft_in1k"))
    assert _start(tagged) == "pretrained weights of timm"
    assert _weights_licence(tagged) == "cc-by-nc-4.0"


def test_what_cannot_be_exported_is_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run_command(world, "export", "--format", "torch", "--quantize", "int8"), "--quantize int8: ")
    monkeypatch.setattr(modules.importlib.util, "find_spec", lambda name: None)
    missing = "onnx, onnxruntime, onnxscript, onnx_ir not installed"
    refused(run_command(world, "export"), missing, "-r requirements-export.txt")


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
    assert 1e-7 < note["files"]["model_int8.onnx"]["largest_difference"] < 0.5
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


@pytest.mark.parametrize(("fit", "bands"), [("letterbox", 0), ("stretch", 5)])
def test_the_example_says_in_one_line_which_files_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, fit: str, bands: int
) -> None:
    metadata = SimpleNamespace(custom_metadata_map={files.KEY: json.dumps({"fit": fit, "bands": bands})})
    session = SimpleNamespace(get_modelmeta=lambda: metadata)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=lambda path: session))
    monkeypatch.setattr(sys, "argv", ["use_onnx.py", "model.onnx", "photo.png"])
    with pytest.raises(SystemExit, match=rf"^model.onnx: takes images by --resize {fit}, bands={bands}; this example"):
        runpy.run_path(str(ROOT / "examples" / "use_onnx.py"))


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
