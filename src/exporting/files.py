"""The files of an export: model.onnx, model_int8.onnx and model.pt2, and how far each is from predict."""

import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.core.errors import InputError
from src.core.writing import write_bytes
from src.data.loader import Loader, gather
from src.exporting.subject import Subject
from src.inference.autotune import MAX_DIFFERENCE, largest_difference
from src.inference.onnx_runtime import check_bytes, exported_program, onnx_model, open_session, quiet, run_session

KEY = "podium"  # of the facts in an ONNX file's metadata
FILES = ("model.onnx", "model_int8.onnx", "model.pt2")


def onnx_bytes(subject: Subject, program: Any) -> bytes:
    """Return a program as an ONNX file with the subject's facts in its metadata. Raises InputError."""
    import onnx

    model = onnx_model(program, subject.outputs)
    onnx.helper.set_model_props(model, {KEY: json.dumps(subject.facts(), ensure_ascii=False)})
    data: bytes = model.SerializeToString()
    return data


def int8_bytes(data: bytes, channels: int) -> bytes:
    """Return an ONNX file with most weights in 8 bits (dynamic quantisation); `channels` are those of an image.

    Convolutions of the image itself and depthwise ones stay as they are: they hold few weights and lose most in 8
    bits (a hint in benchmarks/results/inference_engines.md).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
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


def checked(subject: Subject, name: str, found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of predictions. Raises InputError if a file does not answer as predict does."""
    difference = largest_difference(expected, found, subject.run.competition.layout)
    if not difference <= MAX_DIFFERENCE:
        sized = [view for view in subject.predictor.views(subject.size) if view in ("smaller", "larger")]
        hint = f"; the view {sized[-1]} is only nearly the same in a graph: leave --tta out" if sized else ""
        raise InputError(
            f"{name}: differs by {difference:.1e} from predict, at most {MAX_DIFFERENCE:g} is allowed{hint}"
        )
    return difference


def export(subject: Subject, folder: Path, kind: str, num_check: int) -> dict[str, dict[str, Any]]:
    """Write the files of a format (onnx, torch or both), checked against predict; return what each is.

    Raises InputError if the networks cannot be exported, or a file answers otherwise than predict.
    """
    cache = subject.run.prepared.cache("train", subject.run.begun.cache_size)
    rows = np.arange(min(num_check, len(cache.images)))
    loader, expected = subject.loader(rows), subject.expected(rows)
    graph = subject.graph(subject.folds)
    if kind != "torch":
        check_bytes(graph, "use --format torch, or one fold with --folds")
    program = exported_program(graph, subject.example())
    made = []
    if kind in ("onnx", "both"):
        made.append(("model.onnx", onnx_bytes(subject, program), answers_of_onnx))
    if kind in ("torch", "both"):
        made.append(("model.pt2", torch_bytes(program), answers_of_torch))
    found = {}
    for name, data, answers in made:
        difference = checked(subject, name, answers(data, loader), expected)
        found[name] = {"bytes": len(data), "largest_difference": difference, "images_compared": len(rows)}
    for name in ("model.json", *FILES):  # of an earlier export, perhaps of other weights
        (folder / name).unlink(missing_ok=True)
    for name, data, _ in made:
        write_bytes(folder / name, data)
    return found
