"""Networks by name: sizes, weights from files, and what is refused."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from src.inputs import InputError
from src.models import REFERENCE_NETS
from src.models.build import build_model, check_backbone, normalisation

SMALL_TIMM_NETS = ("test_resnet", "test_efficientnet", "test_vit")


class RunsCode:
    """Unpickling this makes a file: a stand-in for any code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def last_layer(model: nn.Module) -> tuple[str, ...]:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return (f"{names[-1]}.weight", f"{names[-1]}.bias")


@pytest.mark.parametrize("size", [(32, 64), (64, 48)])
@pytest.mark.parametrize("name", [*REFERENCE_NETS, *SMALL_TIMM_NETS])
def test_every_net_gives_one_row_of_logits_per_image(name: str, size: tuple[int, int]) -> None:
    model = build_model(name, 18, size)
    assert model.training
    assert model(torch.randn(2, 3, *size)).shape == (2, 18)


@pytest.mark.parametrize("name", REFERENCE_NETS)
def test_reference_nets_come_from_timm_too(name: str) -> None:
    assert type(timm.create_model(name, num_classes=12)) is type(build_model(name, 12, (64, 128)))


@pytest.mark.parametrize(("typo", "nearest"), [("resnet_18", "resnet18"), ("svhn_cn", "svhn_cnn")])
def test_an_unknown_name_is_answered_with_the_nearest(typo: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"{typo}: no such network; nearest: .*{nearest}"):
        check_backbone(typo)


@pytest.mark.parametrize("name", ["string_cnn", "test_resnet", "test_vit"])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_for_other_classes_load_all_but_the_last_layer(tmp_path: Path, name: str, kind: str) -> None:
    saved = build_model(name, 12, (32, 64)).state_dict()
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(saved, path)
    else:
        torch.save({"state_dict": saved}, path)
    model = build_model(name, 18, (32, 64), weights=path)
    new = last_layer(model)
    for key, value in model.state_dict().items():
        # All classes are equally likely at first: the noise of a new layer would wreck the features.
        assert torch.equal(value, torch.zeros_like(value) if key in new else saved[key]), key


def test_all_classes_are_equally_likely_before_the_first_step() -> None:
    logits = build_model("test_resnet", 12, (32, 64)).eval()(torch.randn(2, 3, 32, 64))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_weights_for_the_same_classes_load_the_last_layer_too(tmp_path: Path) -> None:
    saved = build_model("test_resnet", 12, (32, 64)).state_dict()
    save_file(saved, tmp_path / "weights.safetensors")
    loaded = build_model("test_resnet", 12, (32, 64), weights=tmp_path / "weights.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    save_file(build_model("test_vit", 12, (32, 64)).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match=r"vit.safetensors: do not fit this backbone"):
        build_model("test_resnet", 12, (32, 64), weights=tmp_path / "vit.safetensors")


def test_weights_that_lack_one_layer_are_refused(tmp_path: Path) -> None:
    saved = build_model("string_cnn", 12, (32, 64)).state_dict()
    del saved["columns.0.weight"]
    save_file(saved, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"1 of \d+ tensors are missing.*columns.0.weight"):
        build_model("string_cnn", 12, (32, 64), weights=tmp_path / "part.safetensors")


def test_a_pth_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    torch.save({"state_dict": RunsCode(made)}, path)
    with pytest.raises(InputError, match="holds more than tensors"):
        build_model("svhn_cnn", 12, (32, 64), weights=path)
    assert not made.exists()
    with path.open("wb") as stream:
        pickle.dump(RunsCode(made), stream, protocol=2)
    with pytest.raises(InputError):
        build_model("svhn_cnn", 12, (32, 64), weights=path)
    assert not made.exists()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_cut_off_weights_file_is_refused(tmp_path: Path, kind: str) -> None:
    saved, path = build_model("svhn_cnn", 12, (32, 64)).state_dict(), tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(saved, path)
    else:
        torch.save(saved, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="not a whole weights file"):
        build_model("svhn_cnn", 12, (32, 64), weights=path)


@pytest.mark.parametrize(("name", "size"), [("svhn_cnn", (18, 64)), ("test_vit", (30, 64)), ("string_cnn", (4, 64))])
def test_an_image_size_that_the_net_cannot_take_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"--backbone {name}: "):
        build_model(name, 12, size)


def test_drop_path_reaches_a_net_that_has_it() -> None:
    model = build_model("test_resnet", 12, (32, 64), drop_path=0.5)
    assert any("DropPath" in type(module).__name__ for module in model.modules())


@pytest.mark.parametrize(
    "name",
    [
        "vgg11",
        "string_cnn",
        "svhn_cnn",
    ],
)
def test_drop_path_on_a_net_without_it_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--backbone {name}: does not take these options: .*drop_path"):
        build_model(name, 12, (32, 64), drop_path=0.5)


def test_the_normalisation_is_the_one_the_backbone_was_trained_with() -> None:
    mean, std = normalisation(build_model("lcnet_035", 12, (32, 64)))
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation(build_model("string_cnn", 12, (32, 64))) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_the_string_net_refuses_outputs_that_are_no_equal_heads() -> None:
    with pytest.raises(InputError, match="6 equal heads, 11 outputs"):
        build_model("string_cnn", 11, (32, 64))
