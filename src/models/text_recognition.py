"""A network for strings that starts from a text recogniser's weights instead of ImageNet's.

    pip install -r requirements-onnx.txt               # and the wheel of rapidocr holds PP-OCR's weights (Apache 2.0)
    python -m src.train --backbone text_recognition --weights PP-OCRv6_rec_small.onnx --image-size 48 64 --lr 5e-4

The recogniser reads columns from left to right and gives each column a character or a blank (CTC). Podium's heads ask
for the k-th character, so the last layer keeps the competition's characters only, and the probability of each k-th
character follows from the columns by dynamic programming: exact, differentiable, and right before any training.

Source: Graves et al., Connectionist Temporal Classification, 2006; PP-OCR (PaddlePaddle), exported to ONNX.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from timm.models import register_model
from torch import nn

from src.core.errors import InputError
from src.models.options import own_options

SMALLEST = 1e-6  # probability whose logarithm is taken


def string_probabilities(columns: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Return (B, P, C + 1), the probability of each character at each position, and of the string being shorter.

    columns (B, T, 1 + C) are the probabilities of blank and of each character. Of all paths through the columns,
    `blank` (B, P) and `last` (B, P, C) hold the share that has read n characters, and whose last column was blank or a
    character.
    """
    batch, _, width = columns.shape
    blank = columns.new_zeros(batch, num_positions)
    blank[:, 0] = 1
    last = columns.new_zeros(batch, num_positions, width - 1)
    read = torch.zeros_like(last)
    for column in columns.unbind(1):
        total = blank + last.sum(2)
        # The next character is another one, or the same after a blank: a repeated character is still the same one.
        new = (total[:, :, None] - last).clamp(min=0) * column[:, None, 1:]
        read = read + new
        last = last * column[:, None, 1:] + nn.functional.pad(new[:, :-1], (0, 0, 1, 0))
        blank = total * column[:, :1]
    return torch.cat([read, (1 - read.sum(2, keepdim=True)).clamp(min=0)], dim=2)


def _explicit_padding(nodes: Any) -> None:
    """Replace auto_pad, which onnx2torch refuses, by the padding that it means where the stride is 1."""
    from onnx import helper

    for node in nodes:
        found = {attribute.name: attribute for attribute in node.attribute}
        if "auto_pad" not in found or found["auto_pad"].s != b"SAME_UPPER":
            continue
        if any(stride != 1 for stride in found["strides"].ints):
            raise ValueError(f"{node.name}: auto_pad with a stride is not supported")
        total = [size - 1 for size in found["kernel_shape"].ints]
        node.attribute.remove(found["auto_pad"])
        node.attribute.append(helper.make_attribute("pads", [n // 2 for n in total] + [n - n // 2 for n in total]))


def _load(onnx: Any, file: Path) -> Any:
    from google.protobuf.message import DecodeError  # comes with onnx

    try:
        model = onnx.load(file)
    except FileNotFoundError as error:
        raise InputError(f"--weights {file}: no such file") from error
    except DecodeError as error:
        raise InputError(f"--weights {file}: is not an ONNX file ({error})") from error
    if not any(entry.key == "character" for entry in model.metadata_props):
        raise InputError(f"--weights {file}: is not a text recogniser: its metadata has no 'character' list")
    return model


def read_recogniser(file: Path, characters: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return the network below the last layer, and weight (1 + C, D) and bias of the last layer for the characters."""
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise InputError(
            f"--backbone text_recognition: needs {error.name}; run pip install -r requirements-onnx.txt"
        ) from error
    # It indexes with a list, which torch will read otherwise one day; onnx2torch pins what it was tested with.
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
    model = _load(onnx, file)
    graph = model.graph
    values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}

    def value_of(names: Any) -> Any:
        resolved = [same.get(same.get(name, name), same.get(name, name)) for name in names]
        return next(values[name] for name in resolved if name in values)

    matmuls = [node for node in graph.node if node.op_type == "MatMul"]
    adds = [node for node in graph.node if node.op_type == "Add" and matmuls and matmuls[-1].output[0] in node.input]
    texts = [entry.value for entry in model.metadata_props if entry.key == "character"]
    if not adds or not texts:
        raise InputError(f"--weights {file}: is not a text recogniser that ends in MatMul and Add and lists its "
                         "characters, as RapidOCR's float models do")  # fmt: skip
    last, bias, known = matmuls[-1], adds[0], texts[0].splitlines()
    missing = [character for character in characters if character not in known]
    if missing:
        raise InputError(f"--weights {file}: the recogniser does not know {''.join(missing)!r}")
    rows = [0] + [1 + known.index(character) for character in characters]  # 0 is the blank
    weight, offset = value_of(last.input)[:, rows].T, value_of(bias.input)[rows]
    features = last.input[0]
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None))
    _drop_unused(graph, features)
    _explicit_padding(graph.node)
    trunk = convert(model)
    _train_all(trunk)
    return trunk, torch.tensor(weight), torch.tensor(offset)


def _drop_unused(graph: Any, output: str) -> None:
    """Delete the nodes and values that the output does not need."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    for name, found in (("node", kept[::-1]), ("initializer", [v for v in graph.initializer if v.name in needed])):
        del getattr(graph, name)[:]
        getattr(graph, name).extend(found)


def _train_all(trunk: nn.Module) -> None:
    """Make parameters of the linear layers' weights, which the conversion leaves as constants."""
    for module in trunk.modules():
        for name, value in list(module.named_buffers(recurse=False)):
            if value.is_floating_point() and value.numel() >= 100 and "running" not in name:
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(value.clone()))


class TextRecognition(nn.Module):
    """Images (B, 3, 48, W) to the logarithms of the heads' probabilities (B, P * (C + 1))."""

    def __init__(self, file: Path, characters: str, head_widths: tuple[int, ...], drop_rate: float) -> None:
        super().__init__()
        if set(head_widths) != {len(characters) + 1}:
            raise InputError(
                f"--backbone-options characters={characters}: a head of {head_widths[0]} classes needs "
                f"{head_widths[0] - 1} characters, those of its classes but the last, the string's end"
            )
        self.head_widths = head_widths
        self.trunk, weight, bias = read_recogniser(file, characters)
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(weight.shape[1], len(weight))
        self.head.weight.data.copy_(weight)
        self.head.bias.data.copy_(bias)
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "classifier": "head"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.trunk(images.flip(1))  # trained on BGR; (B, W / 8, D)
        with torch.autocast(images.device.type, enabled=False):
            columns = self.head(self.dropout(features).float()).softmax(2)
            probabilities = string_probabilities(columns, len(self.head_widths))
            return probabilities.clamp(min=SMALLEST).log().flatten(1)


@register_model
def text_recognition(
    pretrained: bool = False,
    weights_file: Path | None = None,
    characters: Any = "0123456789",
    head_widths: tuple[int, ...] | None = None,
    drop_rate: float = 0.0,
    **kwargs: Any,
) -> TextRecognition:
    """Build the network from an ONNX file; `characters` are the classes of each head but the last, the string's end."""
    own_options(kwargs)
    if weights_file is None:
        raise InputError("--backbone text_recognition: needs a recogniser's ONNX file: --weights FILE.onnx of train")
    return TextRecognition(weights_file, str(characters), head_widths or (kwargs["num_classes"],), drop_rate)
