"""From images to probabilities: normalisation, views, batch size, out of memory, devices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from src.competitions import food11, svhn
from src.competitions.layout import HeadLayout
from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.runtime import choose_compute, is_out_of_memory, to_device
from src.core.world import World
from src.data.loader import Loader
from src.data.tta import tta_views, warp_batch
from src.inference.predictor import predict_probabilities
from src.models.build import build_model
from src.models.contract import normalisation
from src.models.network import Network, Normalise
from src.runs.record import ModelRecord
from src.runs.run import build_network
from tests.helpers import classifier

SIZE = (24, 32)
CPU = choose_compute("cpu", "fp32")


def network(num_outputs: int) -> Network:
    """Return a network with batch norm and dropout, in training mode."""
    torch.manual_seed(0)
    backbone = build_model("test_resnet", HeadLayout((num_outputs,)), SIZE, dropout=0.5)
    with torch.no_grad():
        classifier(backbone).weight.normal_(std=3)  # predictions that depend on the image
    return Network(backbone, Normalise(*normalisation(backbone), SIZE[1])).train()


def loader(count: int = 7, batch_size: int = 3, hflip_ok: bool = False) -> Loader:
    images = np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    return Loader(
        images=images,
        rows=np.arange(count),
        targets=np.zeros((count, 1), np.int64),
        image_size=SIZE,
        batch_size=batch_size,
        hflip_ok=hflip_ok,
    )


def test_normalise_is_the_textbook_formula() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    expected = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    result = Normalise(mean, std, 7)(torch.from_numpy(images))
    assert result.shape == (4, 3, 5, 7)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_grey_images_are_normalised_with_one_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 1), dtype=np.uint8).repeat(3, axis=3)
    result = Normalise((0.3,), (0.2,), 7)(torch.from_numpy(images))
    assert result.shape == (4, 1, 5, 7)
    np.testing.assert_allclose(result[:, 0].numpy(), (images[..., 0] / 255 - 0.3) / 0.2, atol=1e-5)


def test_a_grey_network_with_options_is_rebuilt_from_run_json() -> None:
    model = ModelRecord(
        backbone="resnet_mnist", layout=HeadLayout((10,)), image_size=(28, 28), mean=(0.5,), std=(0.25,)
    )
    grey = build_network(replace(model, options={"batch_norm": False}))
    assert grey(torch.zeros(2, 28, 28, 3, dtype=torch.uint8)).shape == (2, 10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in grey.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in build_network(model).modules())


def test_normalisation_is_not_saved_with_the_weights() -> None:
    assert all(key.startswith("backbone.") for key in network(5).state_dict())


@pytest.mark.parametrize("competition", [svhn.COMPETITION, food11.COMPETITION], ids=lambda one: one.name)
def test_the_mean_over_views_matches_one_computed_by_hand(competition: Competition) -> None:
    heads, hflip_ok = competition.heads, competition.hflip_ok
    net, served = network(competition.layout.num_outputs), loader(hflip_ok=hflip_ok)
    views = tta_views(hflip_ok, SIZE)
    assert len(views) == (10 if hflip_ok else 5)
    plain, mean = predict_probabilities(net, served, competition.layout, CPU, list(views.values())[1:])
    by_hand = []
    for matrix in views.values():
        images = torch.from_numpy(warp_batch(served.images[:], matrix, hflip_ok))
        with torch.no_grad():
            parts = net.eval()(images).split([head.num_classes for head in heads], dim=1)
        by_hand.append(torch.cat([part.softmax(1) for part in parts], dim=1).numpy())
    np.testing.assert_allclose(plain, by_hand[0], atol=1e-6)
    np.testing.assert_allclose(mean, np.mean(by_hand, axis=0), atol=1e-6)
    assert abs(plain - mean).max() > 1e-3
    assert plain.dtype == mean.dtype == np.float32


def test_probabilities_do_not_depend_on_the_batch_size() -> None:
    net, views = network(66), list(tta_views(False, SIZE).values())[1:]
    results = [
        predict_probabilities(net, loader(batch_size=size), svhn.COMPETITION.layout, CPU, views) for size in (1, 3, 7)
    ]
    for plain, mean in results[1:]:
        np.testing.assert_allclose(plain, results[0][0], atol=1e-6)
        np.testing.assert_allclose(mean, results[0][1], atol=1e-6)


def test_ranks_that_take_turns_write_into_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    net, layout, views = network(66), svhn.COMPETITION.layout, list(tta_views(False, SIZE).values())[1:2]
    whole = predict_probabilities(net, loader(), layout, CPU, views)
    monkeypatch.setattr(World, "sum", lambda _, tensor: tensor)  # what each rank has by itself
    for size in (2, 4):  # of three batches: one rank has none
        worlds = [World(rank, size) for rank in range(size)]
        parts = [predict_probabilities(net, replace(loader(), world=one), layout, CPU, views) for one in worlds]
        for several, one in zip(map(np.stack, zip(*parts, strict=True)), whole, strict=True):
            assert np.array_equal(several.sum(axis=0), one)
            assert ((several != 0).any(axis=2).sum(axis=0) == 1).all()


def test_without_views_mean_and_plain_are_equal() -> None:
    plain, mean = predict_probabilities(network(66), loader(), svhn.COMPETITION.layout, CPU)
    assert np.array_equal(plain, mean)


def test_predicting_changes_no_weight() -> None:
    net = network(66)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    predict_probabilities(net, loader(), svhn.COMPETITION.layout, CPU)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


class Refusing(nn.Module):
    """A network that fails on more than `limit` images, and records the batch sizes."""

    def __init__(self, net: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.net, self.limit, self.error = net, limit, error
        self.batch_sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(images))
        if len(images) > self.limit:
            raise self.error
        logits: torch.Tensor = self.net(images)
        return logits


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("x: can't allocate memory: you tried")])
def test_out_of_memory_halves_the_batch_and_gives_the_same_probabilities(error: Exception) -> None:
    net, views = network(66), list(tta_views(False, SIZE).values())[1:2]
    expected = predict_probabilities(net, loader(batch_size=7), svhn.COMPETITION.layout, CPU, views)
    short = Refusing(net, 2, error)
    found = predict_probabilities(short, loader(batch_size=7), svhn.COMPETITION.layout, CPU, views)
    assert short.batch_sizes == [7, 4, 2, 2, 3, 2, 1] * 2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("error", "attempts"), [(torch.OutOfMemoryError("x"), [4, 2, 1]), (RuntimeError("x"), [4])])
def test_out_of_memory_on_one_image_and_other_errors_are_raised(error: Exception, attempts: list[int]) -> None:
    short = Refusing(network(66), 0, error)
    with pytest.raises(type(error), match="x"):
        predict_probabilities(short, loader(batch_size=4), svhn.COMPETITION.layout, CPU)
    assert short.batch_sizes == attempts


def test_out_of_memory_errors_of_torch_are_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_refused() -> None:
    with pytest.raises(InputError, match="--device cuda: .* has none; use --device cpu"):
        choose_compute("cuda", "auto")
    assert choose_compute("auto", "auto").dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1), ("fp16", 0.05)])
def test_gpu_and_cpu_give_the_same_probabilities(precision: str, tolerance: float) -> None:
    net, views = network(66), list(tta_views(False, SIZE).values())[1:]
    with torch.no_grad():
        classifier(net.backbone).weight.div_(20)  # as after training: no sharper than low precision can resolve
    expected = predict_probabilities(net, loader(), svhn.COMPETITION.layout, CPU, views)
    compute = choose_compute("cuda", precision)
    found = predict_probabilities(to_device(net, compute), loader(), svhn.COMPETITION.layout, compute, views)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


@pytest.mark.gpu
def test_out_of_memory_errors_of_a_gpu_are_recognised() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(1 << 44, device="cuda")
    assert is_out_of_memory(caught.value)
