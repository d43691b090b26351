"""Predictions of OCR engines off the shelf for street-view, as files for `src.blend --external`; and their score.

    pip install onnx onnxruntime && pip download --no-deps rapidocr ddddocr && unzip -q '*.whl'
    python -m benchmarks.ocr --engine rapidocr --model rapidocr/models/PP-OCRv6_rec_small.onnx --out rapidocr.npz
    python -m benchmarks.ocr --engine ddddocr --model ddddocr/common.onnx --charset ddddocr/charsets.py

Nothing is trained: an engine reads each original image at its own height, keeping the aspect ratio. A letter that looks
like a digit counts as the digit, other characters count as nothing, and the probability of each k-th digit follows
from the columns. Licences: RapidOCR and PP-OCR Apache 2.0, ddddocr MIT.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from src.competitions.decision import decide
from src.competitions.registry import load_competition
from src.config import Paths
from src.core import cli
from src.core.progress import Progress
from src.core.reading import InputFiles
from src.core.writing import write_arrays
from src.core.zips import read_location
from src.models.text_recognition import string_probabilities

LOOKALIKES = ("0OoDQ〇○", "1Ilil|i丨!", "2Zz", "3", "4A", "5Ss", "6Gb", "7T", "8B", "9gq")
HEIGHTS = {"rapidocr": 48, "ddddocr": 64}


@dataclass(frozen=True, kw_only=True)
class OcrConfig(Paths):
    """Which engine reads."""

    model: Path
    """Its ONNX file."""
    engine: Literal["rapidocr", "ddddocr"] = "rapidocr"
    charset: Path | None = None
    """ddddocr's charsets.py."""
    out: Path = Path("ocr.npz")


def characters_of(config: OcrConfig, model: Any) -> list[str]:
    """Return the characters of the columns' classes; the first is the blank."""
    if config.engine == "rapidocr":
        known = next(entry.value for entry in model.metadata_props if entry.key == "character")
        return ["", *known.splitlines(), " "]
    assert config.charset, "--charset: ddddocr's characters are in its charsets.py"
    tree = ast.parse(config.charset.read_text(encoding="utf-8"))
    lists = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    return list(ast.literal_eval(lists["CHARSET_OLD" if "old" in config.model.name else "CHARSET_BETA"]))


def session_of(config: OcrConfig) -> tuple[Any, list[str]]:
    """Return ONNX Runtime's session, whose output are the columns before any argmax, and the characters."""
    import onnx
    import onnxruntime

    model = onnx.load(config.model)
    last = model.graph.node[-1]
    while last.op_type in ("ArgMax", "Identity", "Cast", "Squeeze"):
        name = last.input[0]
        last = next(node for node in model.graph.node if name in node.output)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options), characters_of(config, model)


def as_input(image: np.ndarray, engine: str) -> np.ndarray:
    """Return (1, C, H, W) float32 as the engine normalises it; image (h, w, 3) uint8, BGR."""
    height = HEIGHTS[engine]
    width = max(height // 2, round(image.shape[1] * height / image.shape[0]))
    sized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    if engine == "ddddocr":
        return cv2.cvtColor(sized, cv2.COLOR_BGR2GRAY)[None, None].astype(np.float32) / 255
    return (sized.transpose(2, 0, 1)[None].astype(np.float32) / 255 - 0.5) / 0.5


def digits_of(columns: np.ndarray, groups: list[list[int]], num_positions: int) -> np.ndarray:
    """Return (num_positions, 11) from columns (T, classes): logits or probabilities."""
    if columns.min() < 0 or not np.allclose(columns.sum(1), 1, atol=1e-3):
        columns = torch.from_numpy(columns).softmax(1).numpy()
    shares = np.stack([columns[:, group].sum(1) for group in groups], axis=1) + 1e-6
    shares /= shares.sum(1, keepdims=True)
    return string_probabilities(torch.from_numpy(shares)[None].float(), num_positions)[0].numpy()


def main(config: OcrConfig) -> None:
    """Read every labelled and test image, print the score on the labelled ones, and write --out."""
    competition = load_competition(config.competition)
    session, characters = session_of(config)
    groups = [[0]] + [[n for n, text in enumerate(characters) if text and text in group] for group in LOOKALIKES]
    files = InputFiles(config.input_dir / competition.input_folder)
    labels, test = competition.read_train(files), competition.read_test(files)
    paths = [*labels["image_path"], *test["image_path"]]
    name, num_heads = session.get_inputs()[0].name, len(competition.heads)
    made = np.zeros((len(paths), competition.layout.num_outputs), np.float32)
    with Progress(config.engine, len(paths), "images") as progress:
        for row, path in enumerate(paths):
            image = cv2.imdecode(np.frombuffer(read_location(files.located[path]), np.uint8), cv2.IMREAD_COLOR)
            assert image is not None, path
            columns = session.run(None, {name: as_input(image, config.engine)})[0]
            columns = columns.reshape(-1, columns.shape[-1])
            digits = digits_of(columns, groups, num_heads)
            made[row] = (digits / digits.sum(1, keepdims=True)).ravel()
            progress.update()
    write_arrays(config.out, image_path=np.array(paths), probabilities=made)
    right = (decide(made[: len(labels)], competition) == labels[competition.targets].to_numpy()).all(1)
    print(f"{config.engine}: {right.mean():.4f} of {len(right):,} labelled images, without training; {config.out}")


if __name__ == "__main__":
    cli.run(main, OcrConfig, __doc__)
