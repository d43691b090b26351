"""The files of an export: model.onnx, model_int8.onnx and model.pt2, and how far each is from predict."""

import hashlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.core.locking import temporary_of
from src.core.writing import write_bytes, write_json, write_text
from src.data.loader import Loader, gather
from src.exporting.subject import Subject
from src.inference.autotune import MAX_DIFFERENCE, largest_difference
from src.inference.onnx_runtime import (
    check_bytes,
    exported_program,
    onnx_model,
    open_session,
    quiet,
    run_session,
    running,
)

KEY = "podium"  # of the facts in an ONNX file's metadata
NOTE, CARD = "model.json", "MODEL_CARD.md"
FILES = ("model.onnx", "model_int8.onnx", "model.pt2")


class Made(NamedTuple):
    """A file before it is written, and what is known of it: how far it is from predict, what 8 bits cost."""

    data: bytes
    facts: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Return its entry in model.json."""
        return {"bytes": len(self.data), **self.facts, "sha256": hashlib.sha256(self.data).hexdigest()}


class Check(NamedTuple):
    """Images that every file must answer, and what predict answers, (N, num_outputs)."""

    loader: Loader
    expected: np.ndarray
    layout: HeadLayout

    def facts(self, found: np.ndarray) -> dict[str, Any]:
        """Return how far a file's predictions are from predict's."""
        return {
            "largest_difference": largest_difference(self.expected, found, self.layout),
            "images_compared": len(self.expected),
        }


def onnx_bytes(subject: Subject, program: Any) -> bytes:
    """Return a program as an ONNX file with the subject's facts in its metadata. Raises InputError."""
    import onnx

    model = onnx_model(program, subject.outputs)
    onnx.helper.set_model_props(model, {KEY: json.dumps(subject.facts(), ensure_ascii=False)})
    data: bytes = model.SerializeToString()
    return data


def int8_bytes(data: bytes, channels: int) -> bytes:
    """Return an ONNX file with most weights in 8 bits (dynamic quantisation); `channels` are those of an image.

    Raises InputError if ONNX Runtime cannot quantise it.
    Convolutions of the image itself and depthwise ones stay as they are: they hold few weights and lose most in 8
    bits (a hint in benchmarks/results/inference_engines.md).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet(), running("this network cannot be quantised"):
        plain, inferred, small = (Path(folder, f"{name}.onnx") for name in ("plain", "inferred", "small"))
        plain.write_bytes(data)
        quant_pre_process(str(plain), str(inferred), skip_symbolic_shape=True)
        kept = _sensitive(inferred, channels)
        quantize_dynamic(
            str(inferred), str(small), weight_type=QuantType.QUInt8, per_channel=True, nodes_to_exclude=kept
        )
        return small.read_bytes()


def _sensitive(path: Path, channels: int) -> list[str]:
    """Return the names of the convolutions that are depthwise or take the image itself."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in shapes]
    return [node.name for node in convolutions if shapes[node.input[1]][1] in (1, channels)]  # per group


def torch_bytes(program: Any) -> bytes:
    """Return a program as a file that torch.export.load opens."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def answers_of_onnx(data: bytes, loader: Loader) -> np.ndarray:
    """Return an ONNX file's predictions for a loader's images, (N, num_outputs) float32."""
    session, size = open_session(data), loader.batch_size
    starts = range(0, len(loader.rows), size)
    batches = (gather(loader.images, loader.rows[start : start + size], loader.image_size) for start in starts)
    return np.concatenate([run_session(session, batch) for batch in batches])


def answers_of_torch(data: bytes, loader: Loader) -> np.ndarray:
    """Return the same of a file of torch.export."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(data)).module()
        images = torch.from_numpy(gather(loader.images, loader.rows, loader.image_size))
        return torch.cat([torch.cat(module(part), dim=1) for part in images.split(loader.batch_size)]).numpy()


def check_of(subject: Subject, num_check: int) -> Check:
    """Return the first images of the training cache, at most `num_check`, and predict's answers."""
    cache = subject.run.prepared.cache("train", subject.run.started_record.cache_size)
    rows = np.arange(min(num_check, len(cache.images)))
    return Check(subject.loader(rows), subject.expected(rows), subject.run.competition.layout)


def checked(subject: Subject, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return a file's facts. Raises InputError if it does not answer as predict does."""
    difference = facts["largest_difference"]
    if not difference <= MAX_DIFFERENCE:
        has_views = len(subject.predictor.views(subject.size)) > 1
        hint = "; views may be only nearly the same in a graph: leave --tta out" if has_views else ""
        raise InputError(
            f"{name}: differs by {difference:.1e} from predict, at most {MAX_DIFFERENCE:g} is allowed{hint}"
        )
    return facts


def make_files(subject: Subject, kind: str, check: Check) -> dict[str, Made]:
    """Return the files of a format (onnx, torch or both), checked against predict.

    Raises InputError if the networks cannot be exported, or a file answers otherwise than predict.
    """
    graph = subject.graph(subject.folds)
    if kind != "torch":
        check_bytes(graph, "use --format torch, or one fold with --folds")
    program = exported_program(graph, subject.example())
    made = []
    if kind in ("onnx", "both"):
        made.append(("model.onnx", onnx_bytes(subject, program), answers_of_onnx))
    if kind in ("torch", "both"):
        made.append(("model.pt2", torch_bytes(program), answers_of_torch))
    return {
        name: Made(data, checked(subject, name, check.facts(answers(data, check.loader))))
        for name, data, answers in made
    }


def write_files(folder: Path, made: dict[str, Made], note: dict[str, Any], card: str) -> None:
    """Replace an earlier export, perhaps of other weights; model.json comes last: without it, files may be missing."""
    new = {name: temporary_of(folder / name) for name in made}
    try:
        for name, file in made.items():
            write_bytes(new[name], file.data)  # a full disk leaves the earlier export as it is
        for name in (NOTE, CARD, *FILES):
            (folder / name).unlink(missing_ok=True)
        for name, path in new.items():
            path.replace(folder / name)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)
    write_text(folder / CARD, card)
    write_json(folder / NOTE, note)
