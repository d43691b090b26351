"""The cost of a network against counts by hand, and the command that prints it."""

import re

import pytest
from torch import nn

from src.competitions.layout import HeadLayout
from src.models.build import build_model
from src.models.summary import summarise
from tests.fixtures import Podium

# NiN for grey 224x224 images and 10 classes: (parameters, output positions) of each convolution.
NIN = [
    (11 * 11 * 1 * 96 + 96, 54 * 54),
    (96 * 96 + 96, 54 * 54),
    (96 * 96 + 96, 54 * 54),
    (5 * 5 * 96 * 256 + 256, 26 * 26),
    (256 * 256 + 256, 26 * 26),
    (256 * 256 + 256, 26 * 26),
    (3 * 3 * 256 * 384 + 384, 12 * 12),
    (384 * 384 + 384, 12 * 12),
    (384 * 384 + 384, 12 * 12),
    (3 * 3 * 384 * 10 + 10, 5 * 5),
    (10 * 10 + 10, 5 * 5),
    (10 * 10 + 10, 5 * 5),
]
NIN_BIASES = [96] * 3 + [256] * 3 + [384] * 3 + [10] * 3
NIN_PARAMETERS = 1_992_166
NIN_MULTIPLY_ADDS = 762_297_352


def test_nin_layer_by_layer() -> None:
    by_hand = [
        (parameters - bias) * positions for (parameters, positions), bias in zip(NIN, NIN_BIASES, strict=True)
    ]  # each weight is used once per position
    assert (sum(parameters for parameters, _ in NIN), sum(by_hand)) == (NIN_PARAMETERS, NIN_MULTIPLY_ADDS)
    summary = summarise(build_model("nin", HeadLayout((10,)), (224, 224), 1), (224, 224), 1)
    assert (summary.parameters, summary.multiply_adds) == (NIN_PARAMETERS, NIN_MULTIPLY_ADDS)
    convolutions = summary.layers[summary.layers["kind"] == "Conv2d"]
    assert convolutions["parameters"].tolist() == [parameters for parameters, _ in NIN]
    assert convolutions["multiply_adds"].tolist() == by_hand
    assert summary.layers["multiply_adds"].sum() == NIN_MULTIPLY_ADDS
    shapes = dict(zip(summary.layers["layer"], summary.layers["output"], strict=True))
    assert [shapes[f"net.{index}"] for index in (0, 9, 10, 20, 29, 31, 40)] == [
        "96x54x54", "96x26x26", "256x26x26", "384x12x12", "384x5x5", "10x5x5", "10x1x1"
    ]  # fmt: skip


def test_matrix_products_in_attention_are_counted() -> None:
    model = build_model("test_vit", HeadLayout((18,)), (32, 64)).train()
    width, tokens, depth, hidden = 64, 2 * 4 + 1, 6, 192  # patches of 16x16 pixels, and the class token
    linear = 3 * width * width + width * width + 2 * width * hidden
    attention = 2 * tokens * tokens * width  # queries by keys, and their shares by values
    patches = 2 * 4 * (3 * 16 * 16 * width)
    summary = summarise(model, (32, 64))
    assert summary.multiply_adds == patches + depth * (tokens * linear + attention) + width * 18
    assert model.training


def test_activation_bytes_are_what_backward_needs() -> None:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(4 * 4 * 4, 10))
    floats = {
        "the image, for the convolution": 3 * 8 * 8,
        "the convolution's output, for batch norm": 4 * 8 * 8,
        "the ReLU's output, for ReLU and pooling": 4 * 8 * 8,
        "the pooled features, for the linear layer": 4 * 4 * 4,
        "mean and deviation of the batch, shared by two images": 2 * 4 / 2,
    }
    indices = 8 * 4 * 4 * 4  # of the maxima, 8 bytes each
    assert summarise(model, (8, 8)).activation_bytes == 4 * sum(floats.values()) + indices


def test_the_command_prints_the_cost_of_nin(podium: Podium) -> None:
    code, out, err = podium("summary", "--backbone", "nin", "--competition", "fashion_mnist", "--image-size", 224, 224)
    assert code == 0, err
    assert "nin: 1x224x224 images to 10 outputs" in out
    assert f"parameters {NIN_PARAMETERS:,} (7.6 MiB in fp32)" in out
    assert f"multiply-adds {NIN_MULTIPLY_ADDS:,} " in out
    line = next(line for line in out.splitlines() if line.split()[:1] == ["net.10"])
    assert line.split() == ["net.10", "Conv2d", "256x26x26", "614,656", "415,334,400"]


def test_the_command_takes_size_channels_and_classes_from_the_competition_by_default(podium: Podium) -> None:
    flags = ("--backbone", "resnet_cifar", "--competition", "mnist")
    assert "resnet_cifar: 1x28x28 images to 10 outputs" in podium("summary", *flags).out
    own = podium(
        "summary", *flags, "--num-outputs", 7, "--image-size", 32, 40, "--backbone-options", "batch_norm=False"
    )
    assert "resnet_cifar: 1x32x40 images to 7 outputs" in own.out
    assert "BatchNorm2d" not in own.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--backbone", "resnet_cifer"), "resnet_cifer: no such network; nearest: .*resnet_cifar"),
        (("--backbone", "nin", "--image-size", 66, 224), "at least 67x67 pixels, not 66x224"),
        (("--backbone", "nin", "--backbone-options", "points=1"), "does not take these options: .*points"),
        (("--backbone", "nin", "--backbone-options", "num_points"), "num_points: is not of the form name=value"),
    ],
)
def test_invalid_flags_are_one_line_errors(podium: Podium, flags: tuple[object, ...], message: str) -> None:
    ended = podium("summary", *flags)
    assert ended.code == 2
    assert not ended.out
    assert len(ended.err.splitlines()) == 1
    assert re.search(message, ended.err)
