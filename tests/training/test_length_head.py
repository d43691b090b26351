"""--length-head: a further head learns how long strings are, in training only."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from src.competitions.registry import load_competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.models.build import build_model
from src.models.network import Network, Normalise
from src.runs.checkpoint import load_state
from src.training.length_head import WithLength, check_length_head, length_loss
from tests.fixtures import Podium, Train
from tests.training.test_trainer import stop_after_an_epoch
from tests.world import refused

FLAGS = ("--backbone", "test_resnet", "--ema", 0.5)
PAD = 10


def network(backbone: str = "test_resnet") -> Network:
    layout = load_competition("svhn").layout
    return Network(build_model(backbone, layout, (32, 48)), Normalise((0.5,) * 3, (0.25,) * 3, 48))


def test_lengths_are_counted_from_the_digits() -> None:
    target = torch.tensor([[1, 2, PAD, PAD], [PAD, PAD, PAD, PAD], [4, 4, 4, 4]])
    logits = functional.one_hot(torch.tensor([2, 0, 4]), 5) * 50.0
    assert length_loss(logits, target, PAD, 0.0) < 1e-6
    assert length_loss(logits.roll(1, dims=0), target, PAD, 0.0) > 40
    logits[0] = -logits[0]
    weight = torch.tensor([[0.0] * 4, [1] * 4, [1] * 4])
    assert length_loss(logits, target, PAD, 0.0, weight) < 1e-6


def test_only_training_has_the_further_head() -> None:
    torch.manual_seed(0)
    plain = network()
    both = WithLength(plain, 6)
    images = torch.randint(0, 255, (2, 32, 48, 3), dtype=torch.uint8)
    assert both.train()(images).shape == (2, 66 + 7)
    with torch.inference_mode():
        assert torch.equal(both.eval()(images), plain.eval()(images))
    plain.backbone.drop_rate = 0.0  # type: ignore[assignment]
    torch.testing.assert_close(both.train()(images)[:, :66], plain.train()(images), atol=1e-4, rtol=0)


def test_a_network_without_one_last_layer_is_refused() -> None:
    with pytest.raises(InputError, match="--length-head: StringCnn has no forward_features"):
        WithLength(network("string_cnn"), 6)


@pytest.mark.parametrize(
    ("competition", "flags", "said"),
    [
        ("food11", {}, "--length-head 0.2: food11's answers are not strings of different lengths"),
        ("svhn", {"freeze_backbone": True}, "--length-head 0.2: cannot be combined with --freeze-backbone"),
        ("svhn", {"layer_decay": 0.7}, "--length-head 0.2: cannot be combined with --layer-decay"),
    ],
)
def test_what_does_not_go_together_is_refused(competition: str, flags: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_length_head(TrainConfig(length_head=0.2, **flags), load_competition(competition))  # type: ignore[arg-type]


def test_a_refusal_leaves_no_run_behind(train: Train) -> None:
    for flag, value in (("--length-head", (0.2,)), ("--freeze-backbone", ("--mixup", 0, "--pretrained"))):
        refused(train("run", flag, *value)[1], f"{flag}: StringCnn")
    assert train("run")[1].code == 0


def test_it_is_trained_and_resumed_and_not_kept(train: Train, podium: Podium, monkeypatch: pytest.MonkeyPatch) -> None:
    without, ended = train("without", *FLAGS)
    assert ended.code == 0, ended.err
    straight, ended = train("straight", *FLAGS, "--length-head", 0.2)
    assert ended.code == 0, ended.err
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        assert train("stopped", *FLAGS, "--length-head", 0.2)[1].code == 130
    stopped, ended = train("stopped", *FLAGS, "--length-head", 0.2, "--resume")
    assert ended.code == 0, ended.err
    weights = [load_file(folder / "last.safetensors") for folder in (without, straight, stopped)]
    assert weights[0].keys() == weights[1].keys()
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert load_state(straight / "last.pt")["network"]["head.weight"].abs().max() > 0
    assert podium("predict", "--run-name", "straight").code == 0
