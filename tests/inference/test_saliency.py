"""Saliency: maps of any network, that show the part that decides."""

import numpy as np
import pytest
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.inference.saliency import _layer_cam, evidence, saliency
from src.models.build import build_model
from src.models.contract import last_layer
from src.models.network import Network, Normalise

LAYOUT = HeadLayout((4, 4))


def network_of(backbone: nn.Module, width: int) -> Network:
    """Return a network whose last layer is random: a new one is zero."""
    torch.manual_seed(0)
    for name, tensor in backbone.named_parameters():
        if name in last_layer(backbone):
            nn.init.normal_(tensor)
    return Network(backbone, Normalise((0.5,) * 3, (0.25,) * 3, width))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("svhn_cnn", (32, 64)),
        ("string_cnn", (32, 64)),
        ("resnet10t", (64, 64)),
        pytest.param("vit_tiny_patch16_224", (224, 224), marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", (224, 224), marks=pytest.mark.slow),
        pytest.param("coat_tiny", (224, 224), marks=pytest.mark.slow),  # none of its modules has a map
    ],
)
def test_every_kind_of_network_has_a_map_of_the_images_size(name: str, size: tuple[int, int]) -> None:
    network = network_of(build_model(name, LAYOUT, size, 3, {}, pretrained=False), size[1]).train()
    images = np.random.default_rng(0).integers(0, 256, (3, *size, 3)).astype(np.uint8)
    maps = saliency(network, images, LAYOUT)
    assert maps.shape == (3, *size)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1, atol=1e-5)
    assert network.training  # as it was
    assert not any(module._forward_hooks for module in network.modules())
    assert saliency(network, images[:0], LAYOUT).shape == (0, *size)


class Corner(nn.Module):
    """Answers by the bright part of an image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        self.head = nn.Linear(4, 8)
        nn.init.constant_(self.features[0].weight, 0.1)  # type: ignore[arg-type]
        nn.init.constant_(self.head.weight, 1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).amax(dim=(2, 3)))


def test_the_map_shows_the_part_that_decides() -> None:
    images = np.full((1, 32, 32, 3), 100, np.uint8)
    images[0, 4:12, 20:28] = 255
    shown = saliency(Network(Corner(), Normalise((0.5,) * 3, (0.25,) * 3, 32)), images, LAYOUT)[0]
    assert shown[4:12, 20:28].mean() > 10 * shown.mean() > 0


def test_a_trunk_without_gradients_has_an_empty_map() -> None:
    class Frozen(Corner):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                pooled = self.features(images).amax(dim=(2, 3))
            return self.head(pooled)

    images = np.full((1, 32, 32, 3), 100, np.uint8)
    assert not saliency(Network(Frozen(), Normalise((0.5,) * 3, (0.25,) * 3, 32)), images, LAYOUT).any()


def test_only_what_speaks_for_the_answer_is_shown() -> None:
    output = torch.ones(1, 2, 4, 4, requires_grad=True) * 1
    weights = torch.zeros(1, 2, 4, 4)
    weights[0, 0, 1, 2], weights[0, 1, 3, 0] = 2.0, -5.0
    cam = _layer_cam((weights * output).sum(), [output], lambda one: one)
    assert cam is not None
    assert cam.nonzero().tolist() == [[0, 1, 2]]


def test_evidence_is_that_of_the_chosen_heads_and_of_their_kind() -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0, 1.0, -5.0]])
    layout = HeadLayout((2, 2, 1), ("class", "labels", "number"))
    assert evidence(logits, layout).tolist() == [3 + 2 + 1 + 5]
    assert evidence(logits, layout, heads=[0]).tolist() == [3]
