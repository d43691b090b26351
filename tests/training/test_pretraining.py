"""--loss simsiam, rotation and masked: layers, in training only, with which a network learns without labels."""

import pytest
import torch

from src.competitions.spec import HeadLayout
from src.core.errors import InputError
from src.models.build import build_model
from src.models.network import Network, Normalise, Wrapper
from src.training.losses import mean_error, simsiam
from src.training.pretraining import WIDTH, MaskedPixels, Rotation, Siamese


def network(backbone: str = "test_resnet", size: tuple[int, int] = (32, 48)) -> Network:
    layout = HeadLayout(widths=(7,), kinds=("class",), scales=((0.0, 1.0),))
    return Network(build_model(backbone, layout, size), Normalise((0.5,) * 3, (0.25,) * 3, size[1]))


def some_images(count: int = 4, size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    return torch.randint(0, 255, (count, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_prediction_is_compared_with_the_projections_of_the_copies() -> None:
    projected = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]], requires_grad=True)
    predicted = torch.tensor([[0.0, 5.0], [1.0, 1.0], [1.0, 0.0]], requires_grad=True)
    target = torch.tensor([4, 4, 9])  # the last image has no copy
    outputs = torch.cat([projected, predicted], dim=1)
    found = simsiam(outputs, target, 0.0)
    assert found.item() == pytest.approx(-(1 + 0.5**0.5) / 2)
    found.backward()
    assert projected.grad is None or not projected.grad.any()
    assert predicted.grad is not None
    assert predicted.grad.any(dim=1).tolist() == [False, True, False]  # the first is at its best already
    weight = torch.tensor([0.0, 1.0, 1.0])
    assert simsiam(outputs, target, 0.0, weight).item() == pytest.approx(-(0.5**0.5))
    assert simsiam(outputs, torch.arange(3), 0.0).item() == 0


def test_all_copies_of_an_image_count_alike() -> None:
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    same = torch.eye(2)[target]
    assert simsiam(torch.cat([same, same], dim=1), target, 0.0).item() == pytest.approx(-1)
    one_apart = torch.eye(2)[torch.tensor([1, 0, 0, 1, 1, 1])]
    assert simsiam(torch.cat([same, one_apart], dim=1), target, 0.0).item() == pytest.approx(-5 / 6)


def test_projection_and_prediction_are_learned() -> None:
    wrapper = Siamese(network("resnet_cifar")).train()
    simsiam(wrapper(some_images()), torch.tensor([0, 0, 1, 1]), 0.0).backward()
    learned = {name for name, weights in wrapper.named_parameters() if weights.grad is not None}
    assert {name for name, _ in wrapper.named_parameters()} - learned == {
        "network.backbone.head.weight", "network.backbone.head.bias",
    }  # fmt: skip


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet_cifar", "resnet9"])
def test_the_layers_are_there_in_training_only(backbone: str) -> None:
    plain, images = network(backbone), some_images()
    for wrapper, width in ((Siamese(plain), 2 * WIDTH), (MaskedPixels(plain, (32, 48)), 1)):
        assert isinstance(wrapper, Wrapper)
        assert wrapper.train()(images).shape == (4, width)
        with torch.inference_mode():
            assert torch.equal(wrapper.eval()(images), plain.eval()(images))


def test_the_hidden_pixels_are_those_whose_error_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = MaskedPixels(network("resnet_cifar", (64, 64)), (64, 64)).train()
    torch.nn.init.zeros_(wrapper.predict.weight)
    assert wrapper.predict.bias is not None
    torch.nn.init.zeros_(wrapper.predict.bias)  # grey everywhere: the error is how far each pixel is from grey
    original, seen = wrapper.network.backbone.forward_features, []

    def recorded(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return original(pixels)  # type: ignore[operator]

    monkeypatch.setattr(wrapper.network.backbone, "forward_features", recorded)
    images = torch.full((5, 64, 64, 3), 255, dtype=torch.uint8)
    images[1] = 0
    errors = wrapper(images)
    torch.testing.assert_close(errors, torch.full((5, 1), 2.0))
    hidden = seen[0] == 0
    assert hidden.float().mean().item() == 38 / 64  # 0.6 of 8x8 squares
    assert (hidden.view(5, 3, 8, 8, 8, 8).float().mean(dim=(3, 5)) % 1 == 0).all()  # whole squares
    assert not torch.equal(hidden[0], hidden[2])
    torch.nn.init.constant_(wrapper.predict.bias, 2.0)  # white
    assert wrapper(images)[:, 0].tolist() == pytest.approx([0, 4, 0, 0, 0])


def test_the_errors_of_images_are_averaged() -> None:
    errors = torch.tensor([[1.0], [3.0]])
    assert mean_error(errors, torch.arange(2), 0.0).item() == 2
    assert mean_error(errors, torch.arange(2), 0.0, torch.tensor([0.0, 1.0])).item() == 1.5


def test_each_image_is_turned_as_the_answer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = network(size=(32, 32))
    wrapper, images, seen = Rotation(plain, (32, 32)).train(), some_images(64, (32, 32)), []

    def recorded(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return torch.zeros(len(pixels), wrapper.head.in_features)

    monkeypatch.setattr(plain, "features_of", recorded)
    torch.nn.init.zeros_(wrapper.head.weight)
    with torch.no_grad():
        wrapper.head.bias.copy_(torch.arange(4.0))
    errors = wrapper(images)[:, 0]
    of_turn = -torch.arange(4.0).log_softmax(dim=0)
    turns = (errors[:, None] - of_turn).abs().argmin(dim=1)
    assert turns.bincount(minlength=4).min() > 5
    for turned, pixels, turn in zip(seen[0], plain.normalise(images), turns.tolist(), strict=True):
        assert torch.equal(turned, pixels.rot90(turn, (1, 2)))


def test_which_way_up_an_image_is_can_be_learned() -> None:
    torch.manual_seed(0)
    wrapper = Rotation(network("resnet_cifar", (32, 32)), (32, 32)).train()
    images = torch.linspace(0, 255, 32)[None, :, None, None].expand(16, 32, 32, 3).to(torch.uint8)  # darker on top
    optimizer = torch.optim.Adam(wrapper.parameters(), lr=0.01)
    for _ in range(15):
        loss = wrapper(images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5  # a guess has 1.39


def test_only_square_images_are_turned() -> None:
    with pytest.raises(InputError, match="--loss rotation: needs square images, not 32x48; give --image-size"):
        Rotation(network(), (32, 48))


@pytest.mark.parametrize("size", [(33, 47), (6, 20)])
def test_any_size_can_be_masked(size: tuple[int, int]) -> None:
    wrapper = MaskedPixels(network("resnet_cifar", size), size).train()
    errors = wrapper(some_images(3, size))
    assert errors.isfinite().all()
    errors.mean().backward()
    assert wrapper.predict.weight.grad is not None
    assert wrapper.predict.weight.grad.any()


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("string_cnn", "--loss {}: StringCnn has no forward_features and forward_head"),
        ("test_vit", "--loss masked: VisionTransformer has no map of features, channels first; choose a convolutional"),
    ],
)
def test_a_network_without_what_they_need_is_refused(backbone: str, said: str) -> None:
    if backbone == "string_cnn":
        with pytest.raises(InputError, match=said.format("simsiam")):
            Siamese(network(backbone))
        with pytest.raises(InputError, match=said.format("rotation")):
            Rotation(network(backbone, (64, 64)), (64, 64))
    with pytest.raises(InputError, match=said.format("masked")):
        MaskedPixels(network(backbone, (64, 64)), (64, 64))
