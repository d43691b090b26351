"""The graph that is exported: views as opencv makes them, the mean as the Predictor and the ensemble make it."""

import numpy as np
import pytest
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.runtime import choose_compute
from src.data.images import resize
from src.data.loader import Loader
from src.data.tta import View, sized_view, tta_views, warp_batch
from src.exporting.graph import AnsweringGraph, Resize, Warp
from src.inference.predictor import predict_probabilities
from src.models.network import Network, Normalise

SIZE = (24, 40)
LAYOUT = HeadLayout((3, 2, 2, 1), ("class", "labels", "ordinal", "number"), ((0, 1), (0, 1), (0, 1), (5, 2)))


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Network(nn.Sequential(backbone, nn.Linear(16, 8)), Normalise((0.5,) * 3, (0.25,) * 3, SIZE[1])).eval()


def images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize("hflip_ok", [False, True])
@pytest.mark.parametrize("size", [SIZE, (64, 128), (51, 77)])
def test_views_in_the_graph_are_those_of_opencv(size: tuple[int, int], hflip_ok: bool) -> None:
    noise = images(8, size)
    for name, matrix in tta_views(hflip_ok, size).items():
        found = Warp(matrix, size, hflip_ok)(torch.from_numpy(noise).float()).numpy()
        difference = np.abs(found - warp_batch(noise, matrix, hflip_ok))
        assert difference.max() <= ("zoom" in name), name
        assert (difference > 0).mean() < 1e-4, name  # a sum that opencv rounds the other way


@pytest.mark.parametrize("count", [1, 5])
def test_the_graph_answers_as_the_ensemble_of_predictors(count: int) -> None:
    networks = [network(0), network(1)]
    others: list[View] = [*list(tta_views(True, SIZE).values())[1:], sized_view("smaller", SIZE)]
    loader = Loader(
        images=images(count),
        rows=np.arange(count),
        targets=np.zeros((count, 0), np.int64),
        image_size=SIZE,
        batch_size=3,
        hflip_ok=True,
    )
    compute = choose_compute("cpu", "fp32")
    each = [predict_probabilities(one, loader, LAYOUT, compute, others) for one in networks]
    for views, expected in (([], [one.plain for one in each]), (others, [one.mean for one in each])):
        with torch.no_grad():
            found = AnsweringGraph(networks, LAYOUT, SIZE, views, True)(torch.from_numpy(loader.images[:]))
        assert [part.shape for part in found] == [(count, width) for width in LAYOUT.widths]
        np.testing.assert_allclose(torch.cat(found, dim=1).numpy(), np.mean(expected, axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new"),
    [((32, 96), (64, 24)), ((32, 96), (64, 60)), ((40, 40), (80, 10)), ((32, 96), (24, 72)), ((90, 30), (30, 60))],
)
def test_a_view_of_another_shape_is_resized_as_prepare_does(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    found = Resize(new, old)(torch.from_numpy(image)[None].float())[0].numpy()
    assert np.abs(found - resize(image, new)).max() <= 1  # prepare rounds between two steps
