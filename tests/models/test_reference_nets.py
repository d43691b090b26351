"""The reference nets: sizes counted by hand, minimum image sizes, options.

Most tests build on torch's meta device, which is fast because it has shapes but no values.
"""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.models import REFERENCE_NETS
from src.models.build import build_model

# Minimum image side in pixels, for nets that have a limit.
MIN_SIDE = {
    "food_cnn": 32,
    "food_vgg16_bn": 32,
    "inception_cifar": 8,
    "inception_mnist": 16,
    "nin": 67,
    "resnet9": 8,
    "resnet_mnist": 4,
    "svhn_cnn": 21,
    "vgg_cifar": 16,
}
WITHOUT_BATCH_NORM_OPTION = {"inception_mnist", "resnet9", "string_cnn", "svhn_cnn"}


def on_meta(name: str, num_outputs: int = 12, side: int = 96, in_chans: int = 3, **options: Any) -> nn.Module:
    """Build a net on the meta device."""
    with torch.device("meta"):
        return build_model(name, HeadLayout((num_outputs,)), (side, side), in_chans, options)


def num_parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def linear_layers(model: nn.Module) -> list[tuple[int, int]]:
    """Return (features in, features out) of each linear layer."""
    return [(module.in_features, module.out_features) for module in model.modules() if isinstance(module, nn.Linear)]


def has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", REFERENCE_NETS)
def test_reference_nets_are_registered_in_timm(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=12)
    assert type(model) is type(on_meta(name))


@pytest.mark.parametrize("name", MIN_SIDE)
def test_a_too_small_image_is_an_error_that_gives_the_minimum(name: str) -> None:
    side = MIN_SIDE[name]
    on_meta(name, side=side)
    for size in ((side - 1, side), (side, side - 1)):
        with (
            pytest.raises(InputError, match=f"{name} needs images of at least {side}x{side} pixels, not {size[0]}x"),
            torch.device("meta"),
        ):
            build_model(name, HeadLayout((12,)), size)


@pytest.mark.parametrize("name", sorted(set(REFERENCE_NETS) - WITHOUT_BATCH_NORM_OPTION))
def test_batch_norm_can_be_switched_off(name: str) -> None:
    assert has_batch_norm(on_meta(name, batch_norm=True))
    assert not has_batch_norm(on_meta(name, batch_norm=False))


@pytest.mark.parametrize("name", sorted(WITHOUT_BATCH_NORM_OPTION))
def test_an_option_that_a_net_lacks_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=f"--backbone {name}: does not take these options: .*batch_norm"):
        on_meta(name, batch_norm=False)


@pytest.mark.parametrize("name", sorted(set(REFERENCE_NETS) - {"svhn_cnn"}))  # the course's net has none
def test_dropout_reaches_the_net(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, HeadLayout((12,)), (96, 96), dropout=0.3)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.3}


def conv(channels: int, out: int, kernel_size: int = 3, bias: bool = False, norm: bool = True) -> int:
    """Return the parameters of a convolution and its batch norm."""
    return channels * out * kernel_size**2 + out * bias + 2 * out * norm


def test_resnet_cifar_has_its_published_size() -> None:
    stages = [
        conv(3, 16) + 4 * conv(16, 16),
        2 * conv(16, 32) + 3 * conv(32, 32),  # including the shortcut
        2 * conv(32, 64) + 3 * conv(64, 64),
    ]
    assert num_parameters(on_meta("resnet_cifar", 10, 32)) == sum(stages) + 64 * 10 + 10 == 195_738


def test_resnet9_scales_its_logits() -> None:
    model: Any = timm.create_model("resnet9", num_classes=5).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        logits = model(images)
        assert torch.equal(logits, model.head(model.features(images).amax(dim=(2, 3))) / 8)
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.equal(logits, model.get_classifier()(features))


def test_resnet9_has_its_published_size() -> None:
    pairs = [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    assert num_parameters(on_meta("resnet9", 10, 32)) == sum(conv(*pair) for pair in pairs) + 5120 == 6_573_120


def test_vgg_cifar_has_its_published_size() -> None:
    pairs = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), *[(64, 64)] * 4]
    convolutions = sum(conv(*pair, bias=True) for pair in pairs)
    linear = (64 * 2 * 2) * 52 + 52 + 52 * 10 + 10
    assert num_parameters(on_meta("vgg_cifar", 10, 32)) == convolutions + linear == 206_902


def test_inception_cifar_has_its_published_size() -> None:
    def module(channels: int, width: int) -> int:
        half = width // 2
        points = 4 * conv(channels, half, 1)  # the first layer of each branch
        return points + conv(half, width) + conv(half, width) + conv(width, width)

    modules = module(16, 24) + module(3 * 24, 28) + module(3 * 28, 32) + module(3 * 32, 48)
    linear = 3 * 48 * 10 + 10
    assert num_parameters(on_meta("inception_cifar", 10, 32)) == conv(3, 16) + modules + linear == 107_010


def test_the_courses_nets_have_their_linear_layers() -> None:
    assert linear_layers(on_meta("inception_mnist", 10, 28, 1)) == [(1408, 10)]
    assert linear_layers(on_meta("resnet_mnist", 10, 28, 1)) == [(980, 10)]
    photo = 512 * 4 * 4
    assert linear_layers(on_meta("food_cnn", 11, 128)) == [(photo, 1024), (1024, 512), (512, 11)]
    assert linear_layers(on_meta("food_vgg16_bn", 11, 128)) == [(photo, 4096), (4096, 4096), (4096, 11)]


def test_food_vgg16_bn_has_the_convolutions_of_vgg16_bn() -> None:
    with torch.device("meta"):
        reference = timm.create_model("vgg16_bn").get_submodule("features")
    assert num_parameters(on_meta("food_vgg16_bn", 11, 128).get_submodule("features")) == num_parameters(reference)


@pytest.mark.parametrize("num_points", [1, 2])
def test_nin_has_num_points_1x1_convolutions_per_block(num_points: int) -> None:
    model = on_meta("nin", 10, 224, num_points=num_points)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    kernels = [module.kernel_size[0] for module in convolutions]
    assert kernels == [kernel for first in (11, 5, 3, 3) for kernel in (first, *[1] * num_points)]
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == len(convolutions)


def test_nin_has_xavier_initialisation() -> None:
    model = build_model("nin", HeadLayout((10,)), (67, 67), 1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            kernel_area = module.kernel_size[0] * module.kernel_size[1]
            bound = (6 / (kernel_area * (module.in_channels + module.out_channels))) ** 0.5
            assert 0.8 * bound < module.weight.abs().max() <= bound


def test_nin_can_start_with_every_class_active() -> None:
    images = torch.randn(8, 1, 67, 67, generator=torch.Generator().manual_seed(0))
    for num_points in (1, 2):
        torch.manual_seed(0)
        model = build_model(
            "nin", HeadLayout((10,)), (67, 67), 1, {"num_points": num_points, "positive_start": True}
        ).eval()
        convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert all(torch.equal(conv.weight[:, :, 0, 0], torch.eye(10)) for conv in convs[-num_points:])
        assert (model(images) > 0).any(dim=0).all()
