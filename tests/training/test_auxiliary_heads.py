"""--length-head and --box-head: auxiliary heads learn how long strings are and where, in training only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from src.competitions.registry import load_competition
from src.config import BenchConfig, TrainConfig
from src.config.augment import NO_AUGMENT
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.models.build import build_model
from src.models.network import Network, Normalise
from src.runs.checkpoint import load_state
from src.training.auxiliary_heads import (
    WithAuxiliaryHeads,
    auxiliary_loss,
    box_loss,
    check_auxiliary_heads,
    length_loss,
)
from src.training.benchmark import parts_of
from src.training.loading import make_loader
from src.training.served import Served
from src.training.step import train_step
from tests.fixtures import Podium, Train
from tests.training.test_step import CPU, LAYOUT, make_batch, make_state, plain_settings
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


def test_boxes_are_learned_where_they_are_known() -> None:
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1.0], [torch.nan] * 4])
    outputs = torch.tensor([[-1.0, 0.0, 1.0, 2.0], [9.0] * 4], requires_grad=True)
    loss = box_loss(outputs, boxes)
    loss.backward()
    assert loss == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()
    assert box_loss(outputs + 2, boxes) == 0.5 * 1.5  # half of the sides, each by 2
    assert box_loss(outputs + 2, boxes, torch.tensor([[0.5, 0.1], [9.0, 9.0]])).item() == pytest.approx(0.3 * 0.5 * 1.5)


def test_each_head_has_its_outputs_and_its_weight() -> None:
    target, boxes = torch.tensor([[1, 2, PAD]]), torch.tensor([[0.25, 0.5, 0.75, 1.0]])
    right = torch.tensor([[0.0, 0, 50, 0, -1, 0, 1, 2]])  # of lengths 0 to 3, then of the sides
    both = TrainConfig(length_head=0.5, box_head=2.0, label_smoothing=0.0)
    assert auxiliary_loss(right, target, boxes, None, both, PAD) < 1e-6
    wrong = right + torch.tensor([[0.0, 0, 0, 0, 2, 2, 2, 2]])
    assert abs(auxiliary_loss(wrong, target, boxes, None, both, PAD) - 2 * 1.5) < 1e-6
    assert abs(auxiliary_loss(wrong, target, boxes, torch.full((1, 3), 0.5), both, PAD) - 1.5) < 1e-6
    assert auxiliary_loss(wrong, target, None, None, both, PAD) < 1e-6
    assert auxiliary_loss(wrong[:, 4:], target, boxes, None, TrainConfig(box_head=2.0), None) == 2 * 1.5
    assert abs(auxiliary_loss(-right, target, boxes, None, both, PAD) - 0.5 * 50) < 4


@pytest.mark.parametrize(("lengths", "boxes", "count"), [(0.2, 0.0, 7), (0.0, 0.2, 4), (0.1, 0.2, 11)])
def test_only_training_has_the_auxiliary_heads(lengths: float, boxes: float, count: int) -> None:
    torch.manual_seed(0)
    plain = network()
    both = WithAuxiliaryHeads(plain, TrainConfig(length_head=lengths, box_head=boxes), 6)
    images = torch.randint(0, 255, (2, 32, 48, 3), dtype=torch.uint8)
    assert both.train()(images).shape == (2, 66 + count)
    with torch.inference_mode():
        assert torch.equal(both.eval()(images), plain.eval()(images))
    plain.backbone.drop_rate = 0.0  # type: ignore[assignment]
    torch.testing.assert_close(both.train()(images)[:, :66], plain.train()(images), atol=1e-4, rtol=0)


def test_a_network_without_one_last_layer_is_refused() -> None:
    with pytest.raises(InputError, match="--length-head: StringCnn has no forward_features"):
        WithAuxiliaryHeads(network("string_cnn"), TrainConfig(length_head=0.2), 6)


@pytest.mark.parametrize(
    ("competition", "flags", "said"),
    [
        ("food11", {"length_head": 0.2}, "--length-head 0.2: food11's answers are not strings of different lengths"),
        ("food11", {"box_head": 0.2}, "--box-head 0.2: food11's answers are not strings"),
        ("svhn", {"length_head": -1}, "--length-head -1: "),
        ("svhn", {"length_head": 0.2, "freeze_backbone": True}, "--length-head 0.2: cannot be combined with --freeze"),
        ("svhn", {"length_head": 0.2, "layer_decay": 0.7}, "--length-head 0.2: cannot be combined with --layer-decay"),
        ("svhn", {"box_head": 0.2, "layer_decay": 0.7}, "--box-head 0.2: cannot be combined with --layer-decay"),
        ("svhn", {"box_head": 0.2, "cache_url": "s3://b"}, "--box-head 0.2: cannot be combined with --cache-url"),
    ],
)
def test_what_does_not_go_together_is_refused(competition: str, flags: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_auxiliary_heads(TrainConfig(**flags), load_competition(competition))  # type: ignore[arg-type]


def test_a_refusal_leaves_no_run_behind(train: Train) -> None:
    probe, useless = ("--mixup", 0, "--pretrained"), "features of random weights are useless, and string_cnn begins"
    for flag, value, said in (
        ("--length-head", (0.2,), "StringCnn"),
        ("--box-head", (1,), "StringCnn"),
        ("--freeze-backbone", probe, useless),
    ):
        refused(train("run", flag, *value)[1], f"{flag}: {said}")
    assert train("run")[1].code == 0


@pytest.mark.parametrize(
    "flags",
    [("--length-head", 0.2), ("--box-head", 0.5, "--augment.text-crop", 0.7, "--length-head", 0.1, "--mixup", 0.5)],
    ids=["length", "all"],
)
def test_they_are_trained_and_resumed_and_not_kept(
    train: Train, podium: Podium, monkeypatch: pytest.MonkeyPatch, flags: tuple[object, ...]
) -> None:
    without, ended = train("without", *FLAGS)
    assert ended.code == 0, ended.err
    straight, ended = train("straight", *FLAGS, *flags)
    assert ended.code == 0, ended.err
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        assert train("stopped", *FLAGS, *flags)[1].code == 130
    stopped, ended = train("stopped", *FLAGS, *flags, "--resume")
    assert ended.code == 0, ended.err
    weights = [load_file(folder / "last.safetensors") for folder in (without, straight, stopped)]
    assert weights[0].keys() == weights[1].keys()
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    auxiliary = load_state(straight / "last.pt")["network"]["head.weight"]
    assert (auxiliary.abs().amax(dim=1) > 0).all()
    assert podium("predict", "--run-name", "straight").code == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_mixed_images_learn_both_boxes(monkeypatch: pytest.MonkeyPatch, accumulate: int) -> None:
    boxes, seen = torch.rand(4, 4), []

    def recorded(outputs: torch.Tensor, boxes: torch.Tensor, weight: None) -> torch.Tensor:
        seen.append(boxes)
        return outputs.sum() * 0

    monkeypatch.setattr("src.training.auxiliary_heads.box_loss", recorded)
    state = make_state(num_outputs=5 + 4, accumulate=accumulate)
    settings = plain_settings(box_head=1.0, mixup=0.5)
    train_step(state, {**make_batch(4), "boxes": boxes}, LAYOUT, 0.1, CPU, settings)
    assert len(seen) == 2 * accumulate
    assert torch.equal(torch.cat(seen[::2]), boxes)
    assert torch.equal(torch.cat(seen[1::2]), boxes.flip(0))


def test_images_that_are_added_have_no_known_box() -> None:
    images, targets = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 6), np.int64)
    served = Served(images, np.arange(2), targets, boxes=np.ones((2, 4)))
    joined = served._with(images, None, np.arange(2), targets, 1.0)
    assert joined.boxes is not None
    assert np.array_equal(joined.boxes, [[1.0] * 4] * 2 + [[np.nan] * 4] * 2, equal_nan=True)


def test_boxes_stay_with_their_images_where_these_are_read_in_blocks() -> None:
    images, rows = np.zeros((6, 8, 8, 3), np.uint8), np.array([4, 0, 5, 2])
    boxes = np.repeat(rows[:, None] / 10, 4, axis=1)
    svhn, compute = load_competition("svhn"), choose_compute("cpu", "fp32")
    config = TrainConfig(box_head=0.2, batch_size=4, augment=NO_AUGMENT)
    served = Served(images, rows, np.zeros((4, 6), np.int64), boxes=boxes)
    loader = make_loader(config, svhn, compute, served, (8, 8), train=True, in_blocks=True)
    (batch,) = loader.epoch(0)
    np.testing.assert_allclose(batch["boxes"][:, 0], batch["index"] / 10, atol=1e-6)


def test_bench_has_the_boxes_that_its_flags_need() -> None:
    flags = {"competition": "svhn", "backbone": "test_resnet", "image_size": (32, 48), "batch_size": 4}
    config = BenchConfig(box_head=0.2, augment=replace(NO_AUGMENT, text_crop=1.0), **flags)  # type: ignore[arg-type]
    parts = parts_of(config, load_competition("svhn"), choose_compute("cpu", "fp32"))
    batch = next(iter(parts.loader.epoch(0)))
    assert batch["boxes"].isfinite().all()
    assert batch["boxes"].std(dim=0).min() > 0  # each image is cropped otherwise
