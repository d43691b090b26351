"""Files of every kind of answer and image: what ONNX Runtime answers is what the Predictor does."""

import numpy as np
import pytest
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.runtime import choose_compute
from src.data.loader import Loader
from src.data.tta import tta_views
from src.exporting.graph import AnsweringGraph
from src.exporting.subject import output_names
from src.inference.onnx_runtime import exported_program, is_installed, onnx_model, open_session, run_session
from src.inference.predictor import predict_probabilities
from src.models.network import Network, Normalise

needs_onnx = pytest.mark.skipif(not is_installed(), reason="requirements-export.txt is not installed")
SIZE = (8, 12)
CASES = {  # heads, their outputs' names, channels, bits
    "labels": (HeadLayout((3,), ("labels",)), ["view"], 3, 8),
    "ordinal": (HeadLayout((4,), ("ordinal",)), ["mean"], 3, 8),
    "number": (HeadLayout((1, 1), ("number", "number"), ((5, 2), (0, 100))), ["cat", "stack"], 3, 8),
    "five bands": (HeadLayout((4, 2)), ["relu", "softmax"], 5, 8),
    "six bands": (HeadLayout((4, 2)), ["relu", "softmax"], 6, 8),
    "16 bits": (HeadLayout((4, 1), ("class", "number"), ((0, 1), (1, 3))), ["split", "val_1"], 3, 16),
}


def graph_and_images(layout: HeadLayout, channels: int, depth: int) -> tuple[AnsweringGraph, Network, np.ndarray]:
    """Return the graph of a random network and its views, the network, and five random images."""
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(channels, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    normalise = Normalise((0.5,) * channels, (0.25,) * channels, SIZE[1], depth)
    backbone = nn.Sequential(convolution, nn.Flatten(), nn.Linear(16, layout.num_outputs))
    network = Network(backbone, normalise).eval()
    dtype = np.uint16 if depth == 16 else np.uint8
    images = np.random.default_rng(0).integers(0, 2**depth, (5, *SIZE, channels), dtype=dtype)
    others = list(tta_views(True, SIZE).values())[1:]
    return AnsweringGraph([network], layout, SIZE, others, hflip_ok=True).eval(), network, images


@needs_onnx
@pytest.mark.parametrize("case", CASES)
def test_an_onnx_file_answers_as_the_predictor(case: str) -> None:
    layout, names, channels, depth = CASES[case]
    graph, network, images = graph_and_images(layout, channels, depth)
    model = onnx_model(exported_program(graph, torch.from_numpy(images[:2])), names)
    assert [output.name for output in model.graph.output] == names
    found = run_session(open_session(model.SerializeToString()), images)
    loader = Loader(
        images=images,
        rows=np.arange(5),
        targets=np.zeros((5, 0), np.int64),
        image_size=SIZE,
        batch_size=3,
        hflip_ok=True,
    )
    others = list(tta_views(True, SIZE).values())[1:]
    expected = predict_probabilities(network, loader, layout, choose_compute("cpu", "fp32"), others).mean
    stds = np.repeat([std for _, std in layout.scales], layout.widths)
    np.testing.assert_allclose(found / stds, expected / stds, atol=1e-4)
    assert np.ptp(found, axis=0).min() > 1e-3 * stds.min()  # images differ, so it is not a constant that agrees


@needs_onnx
def test_outputs_keep_their_names_even_if_values_within_have_the_same() -> None:
    layout = HeadLayout((2, 2))
    graph, _, images = graph_and_images(layout, 3, 8)
    program = exported_program(graph, torch.from_numpy(images[:2]))
    plain = onnx_model(program, ["one", "other"])
    within = [name for node in plain.graph.node for name in node.output if name not in ("one", "other")]
    weight = next(tensor.name for tensor in plain.graph.initializer if tensor.name.endswith(".weight"))
    expected = run_session(open_session(plain.SerializeToString()), images)
    for names in (within[:2], [within[-1], weight]):
        model = onnx_model(program, names)
        assert [output.name for output in model.graph.output] == names
        np.testing.assert_array_equal(run_session(open_session(model.SerializeToString()), images), expected)


def test_a_head_that_is_called_like_the_input_gets_a_name_that_no_other_has() -> None:
    assert output_names(["digit", "images"]) == ["digit", "images_"]
    assert output_names(["images_", "images"]) == ["images_", "images__"]
