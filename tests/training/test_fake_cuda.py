"""The GPU path without a GPU, on fake CUDA tensors: devices, dtypes, shapes, and nothing that waits for the device.

Under FakeTensorMode a tensor on "cuda" has no memory, and `.item()` and the like raise an error. Backward needs a real
GPU, and modules cannot be copied, so the tests set gradients by hand and use no moving average.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from src.competitions.layout import HeadLayout
from src.config import Augment, TrainSettings
from src.core.runtime import Compute
from src.core.world import World
from src.data.augmentations import of_bands
from src.data.device import DeviceLoader, augment_on_device
from src.data.loader import Loader
from src.data.tta import tta_views, warped
from src.models.build import build_model
from src.models.heads import probabilities_of
from src.models.network import Network, Normalise
from src.training.losses import LOSSES, loss_of
from src.training.pretraining import LAYERS
from src.training.setup import make_state
from src.training.step import TrainState, _mix, _update
from src.training.whole_batch import WholeBatch
from tests.training.test_step import plain_settings

CUDA = torch.device("cuda")
COMPUTE = Compute(CUDA, torch.float32)  # without a GPU, torch switches autocast off
LAYOUT, SIZE, COUNT = HeadLayout((11, 11)), (32, 48), 12


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def network(backbone: str = "resnet18", size: tuple[int, int] = SIZE) -> Network:
    with CUDA:  # a module of fake tensors cannot be moved there
        body = build_model(backbone, LAYOUT, size, 3, {}, pretrained=False, weights=None, dropout=0.2, drop_path=None)
        return Network(body, Normalise((0.5,) * 3, (0.25,) * 3, size[1]))


def images(count: int = COUNT, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.zeros((count, *size, 3), dtype=torch.uint8, device=CUDA)


def is_on_gpu(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert (tensor.device.type, tuple(tensor.shape), tensor.dtype) == ("cuda", shape, dtype)


def test_the_mode_notices_what_waits_for_the_device(fake: FakeTensorMode) -> None:
    with pytest.raises(DataDependentOutputException):
        images().float().sum().item()


@pytest.mark.parametrize(
    "policy",
    [
        Augment(concat=0),
        Augment(concat=0.5, erase=0.6, hflip=0.5, shear=6, stretch=0.2, invert=0.3),
    ],
)
@pytest.mark.parametrize("world", [World(), World(1, 3)])
def test_batches_are_made_on_the_device(fake: FakeTensorMode, policy: Augment, world: World) -> None:
    targets = np.full((COUNT * 2, 2), 10)
    targets[:, 0] = 1
    loader = Loader(
        images=np.zeros((COUNT * 2, *SIZE, 3), np.uint8),
        rows=np.arange(COUNT * 2),
        targets=targets,
        image_size=SIZE,
        batch_size=COUNT,
        policy=policy,
        hflip_ok=True,
        pad_class=10,
        world=world,
    )
    served = DeviceLoader(loader=loader, images=images(COUNT * 2), device=CUDA, change=augment_on_device)
    batches = list(served.epoch(0))
    assert len(batches) == 2
    for batch in batches:
        own = len(world.share_of(COUNT, world.rank))
        is_on_gpu(batch["image"], (own, *SIZE, 3), torch.uint8)
        is_on_gpu(batch["target"], (own, 2), torch.int64)


@pytest.mark.parametrize("settings", [plain_settings(mixup=0.2), plain_settings(cutmix=1.0)])
def test_bands_of_16_bits_stay_on_the_device(fake: FakeTensorMode, settings: TrainSettings) -> None:
    loader = Loader(
        images=np.zeros((COUNT, *SIZE, 6), np.uint16),
        rows=np.arange(COUNT),
        targets=np.ones((COUNT, 2), np.int64),
        image_size=SIZE,
        batch_size=COUNT,
        policy=of_bands(Augment(concat=0.5, erase=0.6, hflip=0.5)),
        pad_class=10,
    )
    held = torch.zeros((COUNT, *SIZE, 12), dtype=torch.uint8, device=CUDA)  # bytes
    served = DeviceLoader(loader=loader, images=held, device=CUDA, change=augment_on_device)
    (batch,) = served.epoch(0)
    for image in (batch["image"], _mix(batch["image"], settings, np.random.default_rng(0))[0]):
        is_on_gpu(image, (COUNT, *SIZE, 6), torch.uint16)
    with CUDA:
        normalise = Normalise((0.1,) * 6, (0.1,) * 6, SIZE[1], 16)
    is_on_gpu(normalise(batch["image"]), (COUNT, 6, *SIZE), torch.float32)


def test_views_are_warped_and_answered_on_the_device(fake: FakeTensorMode) -> None:
    answering = network().eval()
    for matrix in tta_views(True, SIZE).values():
        with torch.no_grad(), COMPUTE.autocast():
            logits = answering(warped(images(), matrix, True))
        is_on_gpu(probabilities_of(logits, LAYOUT), (COUNT, 22), torch.float32)


@pytest.mark.parametrize("loss", sorted(LOSSES.keys() - LAYERS.keys()))
@pytest.mark.parametrize("settings", [plain_settings(mixup=0.2), plain_settings(cutmix=1.0), plain_settings()])
def test_forward_and_loss_stay_on_the_device(fake: FakeTensorMode, loss: str, settings: object) -> None:
    training = network().train()
    given, target = images(), torch.zeros((COUNT, 2), dtype=torch.int64, device=CUDA)
    if settings.mixup or settings.cutmix:  # type: ignore[attr-defined]
        given, _, partners = _mix(given, settings, np.random.default_rng(0))  # type: ignore[arg-type]
        is_on_gpu(target[partners], (COUNT, 2), torch.int64)
    is_on_gpu(given, (COUNT, *SIZE, 3), torch.uint8)
    rows = torch.arange(COUNT, device=CUDA)
    with COMPUTE.autocast(), WholeBatch(rows, 3 * COUNT, World(), sync_batch_norm=True):
        logits = training(given)
    is_on_gpu(loss_of(logits, target, LAYOUT, loss, 0.1), (), torch.float32)


@pytest.mark.parametrize(
    "loss", sorted(LAYERS.keys() - {"byol"})
)  # which copies its network: fake tensors have no memory
def test_losses_with_layers_stay_on_the_device(fake: FakeTensorMode, loss: str) -> None:
    size = (32, 32)
    with CUDA:
        training = LAYERS[loss](network(size=size), size).train()
    rows, target = torch.arange(COUNT, device=CUDA), torch.zeros(COUNT, dtype=torch.int64, device=CUDA)
    for whole in (nullcontext(), WholeBatch(rows, 3 * COUNT, World(), sync_batch_norm=False)):
        with COMPUTE.autocast(), whole:
            outputs = training(images(size=size))
        is_on_gpu(LOSSES[loss]["class"](outputs.float(), target, 0.1, None), (), torch.float32)


def state_with_gradients(optimizer: str) -> TrainState:
    settings = plain_settings(optimizer=optimizer, ema=0, clip_grad=5.0)
    state = make_state(settings, network(), COMPUTE)
    for weights in state.network.parameters():
        weights.grad = torch.ones_like(weights)
    return state


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])  # torch has no fake form of fused SGD
def test_an_update_with_given_gradients_and_its_skipping_do_not_wait(fake: FakeTensorMode, optimizer: str) -> None:
    state = state_with_gradients(optimizer)
    state.nonfinite.begin(0, 0)
    applied = _update(state, torch.ones((), device=CUDA), 5.0)
    is_on_gpu(applied, (), torch.bool)
    state.nonfinite.note(applied)
    is_on_gpu(state.nonfinite.counts, (2,), torch.int64)
    assert all(weights.device.type == "cuda" for weights in state.network.parameters())
