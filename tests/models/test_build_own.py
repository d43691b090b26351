"""Networks built from options or from a user's file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.competitions.layout import HeadLayout
from src.core.errors import InputError
from src.models.build import build_model, read_options


def test_options_are_parsed_as_python_literals() -> None:
    texts = ["batch_norm=False", "num_points=1", "drop_rate=0.25", "act_layer=silu", "depths=(2, 2)", "name=a=b"]
    assert read_options(texts) == {
        "batch_norm": False,
        "num_points": 1,
        "drop_rate": 0.25,
        "act_layer": "silu",
        "depths": [2, 2],  # as run.json will have it
        "name": "a=b",
    }
    assert read_options([]) == {}


def test_options_that_no_json_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="--backbone-options x={1, 2}: give a number, a text, a list or True or False"):
        read_options(["x={1, 2}"])


@pytest.mark.parametrize("text", ["batch_norm", "batch_norm=", "=1", "batch norm=1", ""])
def test_malformed_options_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form name=value, such as batch_norm=False"):
        read_options([text])


def test_options_are_passed_to_a_timm_net() -> None:
    model = build_model("test_resnet", HeadLayout((12,)), (32, 64), extra=read_options(["act_layer=silu"]))
    assert any(isinstance(module, nn.SiLU) for module in model.modules())


@pytest.mark.parametrize("name", ["nin", "test_resnet"])
def test_num_classes_is_refused_as_an_option(name: str) -> None:
    with pytest.raises(InputError, match="num_classes"):
        build_model(name, HeadLayout((10,)), (96, 96), extra={"num_classes": 3})


def test_string_cnn_refuses_heads_with_different_classes() -> None:
    with pytest.raises(InputError, match="--backbone string_cnn: needs heads with the same classes .*, not 11, 3"):
        build_model("string_cnn", HeadLayout((11, 3)), (32, 64))


@pytest.mark.parametrize("widths", [(36,) * 4, (11,) * 6, (5,)])
def test_string_cnn_has_one_position_for_each_head(widths: tuple[int, ...]) -> None:
    """144 outputs divide by 6, so four characters of 36 classes were once built as six of 24."""
    model = build_model("string_cnn", HeadLayout(widths), (32, 64))
    assert model.head_widths == widths
    assert isinstance(model.head, nn.Linear)
    assert model.head.out_features == widths[0]
    assert model(torch.zeros(2, 3, 32, 64)).shape == (2, sum(widths))


def test_options_that_contradict_the_heads_are_refused() -> None:
    with pytest.raises(InputError, match="unexpected option 'num_positions'"):
        build_model("string_cnn", HeadLayout((36,) * 4), (32, 64), extra={"num_positions": 6})
    with pytest.raises(InputError, match="head_widths: is decided by the competition"):
        build_model("string_cnn", HeadLayout((36,) * 4), (32, 64), extra={"head_widths": (24,) * 6})


OWN_NETWORK = """
from timm.models import register_model
from torch import nn

class Mine(nn.Module):
    def __init__(self, outputs, channels, head_widths):
        super().__init__()
        self.head_widths = head_widths
        self.stem, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, outputs)

    def forward(self, images):
        return self.head(self.stem(images).mean(dim=(2, 3)))

@register_model
def NAME(pretrained=False, head_widths=None, **kwargs):
    return Mine(OUTPUTS, kwargs["in_chans"], WIDTHS)
"""


def own_network(folder: Path, name: str, outputs: str = 'kwargs["num_classes"]', widths: str = "head_widths") -> Path:
    path = folder / f"{name}.py"
    path.write_text(OWN_NETWORK.replace("NAME", name).replace("OUTPUTS", outputs).replace("WIDTHS", widths))
    return path


def test_a_users_network_file_needs_no_registration(tmp_path: Path) -> None:
    path, layout = own_network(tmp_path, "own_net"), HeadLayout((3, 2))
    model = build_model(str(path), layout, (32, 64))
    assert model(torch.zeros(2, 3, 32, 64)).shape == (2, 5)
    assert model.head_widths == (3, 2)
    assert isinstance(model.head, nn.Linear)
    assert model.head.weight.abs().max() > 0  # keeps its own initialisation
    save_file(build_model(str(path), HeadLayout((7,)), (32, 64)).state_dict(), tmp_path / "weights.safetensors")
    loaded = build_model(str(path), layout, (32, 64), weights=tmp_path / "weights.safetensors")
    assert isinstance(loaded.head, nn.Linear)
    assert not loaded.head.weight.any()  # new, as the classes differ


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("wrong_outputs", {"outputs": "9"}, "gives 1x9 for one image, the competition's 2 heads need 1x5"),
        ("wrong_heads", {"widths": "(2, 3)"}, "is built for heads of 2, 3 classes, the competition has 3, 2"),
    ],
)
def test_a_network_that_contradicts_the_heads_is_refused(
    tmp_path: Path, name: str, changes: dict[str, str], message: str
) -> None:
    path = own_network(tmp_path, name, **changes)
    with pytest.raises(InputError, match=message):
        build_model(str(path), HeadLayout((3, 2)), (32, 64))


def test_a_network_file_that_defines_no_network_of_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nothing_here.py"
    path.write_text("print")
    with pytest.raises(InputError, match="defines no @register_model def nothing_here"):
        build_model(str(path), HeadLayout((3,)), (32, 64))
    with pytest.raises(InputError, match="no such network file"):
        build_model(str(tmp_path / "absent.py"), HeadLayout((3,)), (32, 64))
