"""Networks by name: sizes, weights from files, and what is refused."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.models import REFERENCE_NETS
from src.models.build import build_model, load_weights
from src.models.contract import find_backbone, normalisation
from tests.helpers import classifier

SMALL_TIMM_NETS = ("test_resnet", "test_efficientnet", "test_vit")
SIZES = {"nin": ((67, 96), (90, 72))}  # for nets that need more than 32 pixels


class RunsCode:
    """Unpickling this creates a file: a stand-in for any code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def last_layer(model: nn.Module) -> tuple[str, ...]:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return (f"{names[-1]}.weight", f"{names[-1]}.bias")


@pytest.mark.parametrize(("case", "in_chans", "num_outputs"), [(0, 3, 18), (1, 1, 12)], ids=["colour", "grey"])
@pytest.mark.parametrize("name", [*REFERENCE_NETS, *SMALL_TIMM_NETS])
def test_every_net_gives_one_row_of_logits_per_image(name: str, case: int, in_chans: int, num_outputs: int) -> None:
    size = SIZES.get(name, ((32, 64), (64, 48)))[case]
    model = build_model(name, HeadLayout((num_outputs,)), size, in_chans)
    assert model.training
    logits = model(torch.randn(2, in_chans, *size))
    assert logits.shape == (2, num_outputs)
    logits.sum().backward()
    assert all(value.grad is not None for value in model.parameters())  # no layer is skipped


@pytest.mark.parametrize(("typo", "nearest"), [("resnet_18", "resnet18"), ("svhn_cn", "svhn_cnn")])
def test_an_unknown_name_is_refused_with_the_nearest(typo: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"{typo}: no such network; nearest: .*{nearest}"):
        find_backbone(typo)


@pytest.mark.parametrize("name", ["string_cnn", "test_resnet", "test_vit"])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_for_other_classes_load_all_but_the_last_layer(tmp_path: Path, name: str, kind: str) -> None:
    saved = build_model(name, HeadLayout((12,)), (32, 64)).state_dict()
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(saved, path)
    else:
        torch.save({"state_dict": saved}, path)
    model = build_model(name, HeadLayout((18,)), (32, 64), weights=path)
    new = last_layer(model)
    for key, value in model.state_dict().items():
        # All classes are equally likely at first: the noise of a new layer would wreck the features.
        assert torch.equal(value, torch.zeros_like(value) if key in new else saved[key]), key


def test_all_classes_are_equally_likely_before_the_first_step() -> None:
    logits = build_model("test_resnet", HeadLayout((12,)), (32, 64)).eval()(torch.randn(2, 3, 32, 64))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_weights_for_the_same_classes_load_the_last_layer_too(tmp_path: Path) -> None:
    saved = build_model("test_resnet", HeadLayout((12,)), (32, 64)).state_dict()
    save_file(saved, tmp_path / "weights.safetensors")
    loaded = build_model(
        "test_resnet", HeadLayout((12,)), (32, 64), weights=tmp_path / "weights.safetensors"
    ).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())


def test_a_transformers_weights_fit_images_of_another_size(tmp_path: Path) -> None:
    saved = build_model("test_vit", HeadLayout((12,)), (64, 64)).state_dict()
    save_file(saved, tmp_path / "weights.safetensors")
    wider = build_model("test_vit", HeadLayout((12,)), (64, 96), weights=tmp_path / "weights.safetensors")
    state = wider.state_dict()
    assert (saved["pos_embed"].shape[1], state["pos_embed"].shape[1]) == (1 + 4 * 4, 1 + 4 * 6)
    assert torch.equal(state["pos_embed"][:, 0], saved["pos_embed"][:, 0])  # of the class token
    assert all(torch.equal(state[key], value) for key, value in saved.items() if key != "pos_embed")
    assert wider(torch.randn(2, 3, 64, 96)).shape == (2, 12)


def test_weights_of_a_larger_transformer_are_refused(tmp_path: Path) -> None:
    """What timm cannot adapt to another size is told as what it is: another network."""
    save_file(build_model("test_vit2", HeadLayout((12,)), (64, 64)).state_dict(), tmp_path / "other.safetensors")
    for size in ((64, 64), (64, 96)):
        with pytest.raises(InputError, match=r"other.safetensors: do not fit this backbone"):
            build_model("test_vit", HeadLayout((12,)), size, weights=tmp_path / "other.safetensors")


def test_a_network_of_ones_own_may_call_its_parts_backbone() -> None:
    network = nn.Sequential(OrderedDict(backbone=nn.Linear(3, 2)))
    state = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    load_weights(network, state, "--weights a.pth")
    assert (network.state_dict()["backbone.weight"] == 1).all()


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    save_file(build_model("test_vit", HeadLayout((12,)), (32, 64)).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match=r"vit.safetensors: do not fit this backbone"):
        build_model("test_resnet", HeadLayout((12,)), (32, 64), weights=tmp_path / "vit.safetensors")


def test_weights_with_a_missing_layer_are_refused(tmp_path: Path) -> None:
    saved = build_model("string_cnn", HeadLayout((12,)), (32, 64)).state_dict()
    del saved["columns.0.weight"]
    save_file(saved, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"1 of \d+ tensors are missing.*columns.0.weight"):
        build_model("string_cnn", HeadLayout((12,)), (32, 64), weights=tmp_path / "part.safetensors")


def test_a_pth_file_with_code_is_refused_and_the_code_is_not_run(tmp_path: Path) -> None:
    path, created = tmp_path / "weights.pth", tmp_path / "created"
    torch.save({"state_dict": RunsCode(created)}, path)
    with pytest.raises(InputError, match="holds more than tensors"):
        build_model("svhn_cnn", HeadLayout((12,)), (32, 64), weights=path)
    assert not created.exists()
    with path.open("wb") as stream:
        pickle.dump(RunsCode(created), stream, protocol=2)
    with pytest.raises(InputError):
        build_model("svhn_cnn", HeadLayout((12,)), (32, 64), weights=path)
    assert not created.exists()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_truncated_weights_file_is_refused(tmp_path: Path, kind: str) -> None:
    saved, path = build_model("svhn_cnn", HeadLayout((12,)), (32, 64)).state_dict(), tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(saved, path)
    else:
        torch.save(saved, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="not a complete weights file"):
        build_model("svhn_cnn", HeadLayout((12,)), (32, 64), weights=path)


@pytest.mark.parametrize(("name", "size"), [("svhn_cnn", (18, 64)), ("test_vit", (30, 64)), ("string_cnn", (4, 64))])
def test_an_unsupported_image_size_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"--backbone {name}: "):
        build_model(name, HeadLayout((12,)), size)


def test_drop_path_is_passed_to_a_net_that_has_it() -> None:
    model = build_model("test_resnet", HeadLayout((12,)), (32, 64), drop_path=0.5)
    assert any("DropPath" in type(module).__name__ for module in model.modules())


@pytest.mark.parametrize("name", ["vgg11", *REFERENCE_NETS])
def test_drop_path_on_a_net_without_it_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--backbone {name}: does not take these options: .*drop_path"):
        build_model(name, HeadLayout((12,)), (96, 96), drop_path=0.5)


def test_normalisation_is_that_of_the_pretrained_backbone() -> None:
    mean, std = normalisation(build_model("lcnet_035", HeadLayout((12,)), (32, 64)))
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation(build_model("string_cnn", HeadLayout((12,)), (32, 64))) == (
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
    )


def test_grey_images_are_normalised_with_the_mean_over_channels() -> None:
    (mean,), (std,) = normalisation(build_model("lcnet_035", HeadLayout((12,)), (32, 64), 1), 1)
    assert (mean, std) == (pytest.approx(0.449, abs=1e-6), pytest.approx(0.226, abs=1e-6))
    assert normalisation(build_model("resnet_mnist", HeadLayout((10,)), (28, 28), 1), 1) == ((0.5,), (0.25,))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_colour_weights_load_into_a_grey_net_as_the_sum_over_channels(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    colour = build_model(name, HeadLayout((12,)), (32, 64)).eval()
    with torch.no_grad():
        classifier(colour).weight.normal_()  # logits that depend on the image
    save_file(colour.state_dict(), tmp_path / "weights.safetensors")
    grey = build_model(name, HeadLayout((12,)), (32, 64), 1, weights=tmp_path / "weights.safetensors").eval()
    images = torch.randn(2, 1, 32, 64)
    with torch.no_grad():
        logits = grey(images)
        torch.testing.assert_close(logits, colour(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.01


def test_colour_weights_load_into_a_net_of_six_bands_as_repeated_colours(tmp_path: Path) -> None:
    colour = build_model("test_resnet", HeadLayout((12,)), (32, 64)).eval()
    with torch.no_grad():
        classifier(colour).weight.normal_()
    save_file(colour.state_dict(), tmp_path / "weights.safetensors")
    six = build_model("test_resnet", HeadLayout((12,)), (32, 64), 6, weights=tmp_path / "weights.safetensors").eval()
    images = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(six(images.repeat(1, 2, 1, 1)), colour(images), atol=1e-4, rtol=1e-4)
