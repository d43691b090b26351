"""--loss simsiam, byol, rotation and masked: layers, in training only, with which a network learns without labels."""

import pytest
import torch

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.core.world import World
from src.models.build import build_model
from src.models.network import Network, Normalise, Wrapper
from src.training.losses import mean_error, simsiam
from src.training.pretraining import LAYERS, TARGET_DECAY, WIDTH, Byol, MaskedPixels, Rotation, Siamese
from src.training.whole_batch import WholeBatch


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
    wrapper = Siamese(network("resnet_cifar"), (32, 48)).train()
    simsiam(wrapper(some_images()), torch.tensor([0, 0, 1, 1]), 0.0).backward()
    learned = {name for name, weights in wrapper.named_parameters() if weights.grad is not None}
    assert {name for name, _ in wrapper.named_parameters()} - learned == {
        "network.backbone.head.weight", "network.backbone.head.bias",
    }  # fmt: skip


def test_the_target_network_follows_the_one_that_learns() -> None:
    wrapper, images = Byol(network("resnet_cifar"), (32, 48)).train(), some_images()
    with torch.no_grad():
        first = wrapper.project(wrapper.network.features(images))
    assert torch.allclose(wrapper(images)[:, :WIDTH], first, atol=1e-5)  # a copy at first
    before = [weights.clone() for weights in wrapper.target.parameters()]
    with torch.no_grad():
        for weights in wrapper.network.parameters():
            weights.add_(1)
    outputs = wrapper(images)
    moved = [(weights - old).mean().item() for weights, old in zip(wrapper.target.parameters(), before, strict=True)]
    assert moved == pytest.approx([1 - TARGET_DECAY] * len(before), rel=1e-3)
    with torch.no_grad():
        targets = wrapper.target_project(wrapper.target.features(images))
        predicted = wrapper.predict(wrapper.project(wrapper.network.features(images)))
    assert torch.allclose(outputs, torch.cat([targets, predicted], dim=1), atol=1e-4)
    simsiam(outputs, torch.tensor([0, 0, 1, 1]), 0.0).backward()
    learned = {name.split(".")[0] for name, weights in wrapper.named_parameters() if weights.grad is not None}
    assert learned == {"network", "project", "predict"}
    moved_once = [weights.clone() for weights in wrapper.target.parameters()]
    with torch.no_grad():
        assert torch.equal(wrapper.eval()(images), wrapper.network(images))
    assert all(map(torch.equal, moved_once, wrapper.target.parameters()))  # scoring moves nothing


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet_cifar", "resnet9"])
def test_the_layers_are_there_in_training_only(backbone: str) -> None:
    plain, images = network(backbone), some_images()
    for wrapper, width in ((Siamese(plain, (32, 48)), 2 * WIDTH), (MaskedPixels(plain, (32, 48)), 1)):
        assert isinstance(wrapper, Wrapper)
        assert wrapper.train()(images).shape == (4, width)
        with torch.inference_mode():
            assert torch.equal(wrapper.eval()(images), plain.eval()(images))


def watched(wrapper: Wrapper, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return the list to which the pixels that the backbone sees are added."""
    original, seen = wrapper.network.backbone.forward_features, []

    def recorded(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return original(pixels)  # type: ignore[operator]

    monkeypatch.setattr(wrapper.network.backbone, "forward_features", recorded)
    return seen


def test_the_hidden_pixels_are_those_whose_error_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = MaskedPixels(network("resnet_cifar", (64, 64)), (64, 64)).train()
    assert wrapper.predict.bias is not None
    torch.nn.init.zeros_(wrapper.predict.weight)
    torch.nn.init.zeros_(wrapper.predict.bias)  # 0 everywhere: the error is how far each pixel is from 0
    seen = watched(wrapper, monkeypatch)
    images = some_images(5, (64, 64)).clamp(min=128)  # no pixel is 0 once it is normalised
    errors = wrapper(images)
    hidden, pixels = seen[0] == 0, wrapper.network.normalise(images)
    assert torch.equal(seen[0][~hidden], pixels[~hidden])
    assert hidden.float().mean(dim=(1, 2, 3)).tolist() == [38 / 64] * 5  # 0.6 of 8x8 cells
    assert (hidden.view(5, 3, 8, 8, 8, 8).float().mean(dim=(3, 5)) % 1 == 0).all()  # whole cells
    assert not torch.equal(hidden[0], hidden[1])
    expected = [image.abs()[where].mean().item() for image, where in zip(pixels, hidden, strict=True)]
    assert errors[:, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("backbone", "size"), [("resnet_cifar", (64, 64)), ("test_convnext", (50, 40))])
def test_a_prediction_lands_where_its_cell_looks(
    monkeypatch: pytest.MonkeyPatch, backbone: str, size: tuple[int, int]
) -> None:
    wrapper = MaskedPixels(network(backbone, size), size).train()
    assert wrapper.predict.bias is not None
    torch.nn.init.zeros_(wrapper.predict.bias)
    torch.nn.init.zeros_(wrapper.predict.weight)
    torch.nn.init.ones_(wrapper.predict.weight[:, :1])  # what the first feature says, painted into its whole cell
    height, width = wrapper._features(torch.zeros(1, 3, *size)).shape[2:]
    where = torch.zeros(1, wrapper.predict.in_channels, height, width)
    where[0, 0, 0, -1] = 1000  # the cell at the top right
    monkeypatch.setattr(wrapper, "_features", lambda pixels: where)
    painted: list[torch.Tensor] = []
    original = torch.nn.functional.interpolate

    def recorded(pixels: torch.Tensor, size: torch.Size) -> torch.Tensor:
        painted.append(original(pixels, size=size))
        return painted[-1]

    monkeypatch.setattr("src.training.pretraining.functional.interpolate", recorded)
    images = some_images(1, size)
    error = wrapper(images).item()
    hidden, predicted = painted
    errors = (predicted - wrapper.network.normalise(images)).abs().mean(dim=1, keepdim=True)
    assert error == pytest.approx(errors[hidden == 1].mean().item(), rel=1e-4)
    rows, columns = (predicted[0, 0] > 0).nonzero().unbind(dim=1)
    assert rows.min() == 0
    assert columns.max() == size[1] - 1
    assert abs(rows.max().item() + 1 - size[0] / height) < 2
    assert abs(columns.min().item() - (size[1] - size[1] / width)) < 2


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


@pytest.mark.parametrize(
    ("backbone", "size", "seen"),
    [
        ("resnet_cifar", (33, 47), (33, 47)),
        ("resnet_cifar", (6, 20), (6, 20)),
        ("resnet9", (31, 31), (31, 31)),
        ("test_convnext", (128, 128), (88, 88)),  # as with --progressive-resize; rounds down
    ],
)
def test_any_size_can_be_masked(backbone: str, size: tuple[int, int], seen: tuple[int, int]) -> None:
    wrapper = MaskedPixels(network(backbone, size), size).train()
    errors = wrapper(some_images(3, seen))
    assert errors.isfinite().all()
    errors.mean().backward()
    assert wrapper.predict.weight.grad is not None
    assert wrapper.predict.weight.grad.any()


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("string_cnn", "--loss {}: StringCnn has no forward_features"),
        ("test_vit", "--loss masked: VisionTransformer has no map of features, channels first; choose a convolutional"),
    ],
)
def test_a_network_without_what_they_need_is_refused(backbone: str, said: str) -> None:
    if backbone == "string_cnn":
        with pytest.raises(InputError, match=said.format("simsiam")):
            Siamese(network(backbone), (32, 48))
        with pytest.raises(InputError, match=said.format("rotation")):
            Rotation(network(backbone, (64, 64)), (64, 64))
    with pytest.raises(InputError, match=said.format("masked")):
        MaskedPixels(network(backbone, (64, 64)), (64, 64))


class Pairs(torch.nn.Module):
    """A network of one's own whose forward_features returns two maps, and whose forward_head takes no pre_logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 2)

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def get_classifier(self) -> torch.nn.Linear:
        return self.head


def test_a_network_of_ones_own_may_not_suit() -> None:
    own = Network(Pairs(), Normalise((0.5,) * 3, (0.25,) * 3, 32))
    with pytest.raises(InputError, match="--loss masked: Pairs has no map of features"):
        MaskedPixels(own, (32, 32))
    with pytest.raises(InputError, match="--loss simsiam: forward_head of Pairs takes no pre_logits"):
        Siamese(own, (32, 32))


@pytest.mark.parametrize("loss", ["rotation", "masked"])
def test_a_batch_in_parts_hides_and_turns_as_the_whole(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(6, (32, 32))
    wrapper = LAYERS[loss](network("resnet_cifar", (32, 32)), (32, 32)).train()
    seen = watched(wrapper, monkeypatch)
    torch.manual_seed(3)
    wrapper(images)
    for rows in (torch.arange(3), torch.arange(3, 6)):
        torch.manual_seed(3)
        with WholeBatch(rows, 6, World(0, 1), False):
            wrapper(images[rows])
    assert torch.equal(seen[0], torch.cat(seen[1:]))
