"""Augmentation on the device matches the CPU's, with the same draws; on CPU tensors, and on a GPU with -m gpu."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import Augment
from src.data.device import on_device, warp_on_device
from src.data.loader import Loader
from src.data.tta import tta_views, warp_batch
from src.inference.autotune import has_compiler
from src.training import loading
from tests.fixtures import DrawImage, MakeSvhn, Podium

SIZE = (32, 48)
PAD_CLASS = 10
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def images(draw_image: DrawImage) -> np.ndarray:
    return np.stack([draw_image(seed, SIZE) for seed in range(26)])


def loader(images: np.ndarray, policy: Augment | None, **options: Any) -> Loader:
    """Return a loader of the images in reverse order, labelled with numbers of one to three digits."""
    targets = np.random.default_rng(0).integers(0, 10, (len(images), 6))
    for row, target in enumerate(targets):
        target[1 + row % 3 :] = PAD_CLASS
    facts: dict[str, Any] = {"image_size": SIZE, "batch_size": 8, "seed": 3, "pad_class": PAD_CLASS, **options}
    return Loader(images=images, rows=np.arange(len(images))[::-1].copy(), targets=targets, policy=policy, **facts)


def both(one: Loader, device: str, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one epoch's images from both paths; assert that indices and targets are equal."""
    ours, theirs = list(one.epoch(epoch)), list(on_device(one, torch.device(device), False).epoch(epoch))
    assert len(ours) == len(theirs)
    for batch, same in zip(ours, theirs, strict=True):
        assert torch.equal(batch["index"], same["index"])
        assert torch.equal(batch["target"], same["target"].cpu())
        assert same["image"].dtype == torch.uint8
        assert same["image"].device.type == device
    images = [torch.cat([batch["image"].cpu() for batch in batches]).float() for batches in (ours, theirs)]
    return images[0], images[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("policy", "options", "mean", "most"),
    [
        (Augment(concat=0), {}, 0.2, 3),
        (Augment(concat=0, erase=0.6, hflip=0.5, shear=6, stretch=0.2, invert=0.3), {"hflip_ok": True}, 0.2, 3),
        (Augment(concat=0), {"image_size": (64, 96)}, 0.3, 3),
        (Augment(concat=0.6), {}, 0.8, 16),
        (Augment(concat=0.3, recombine=0.6), {"variants": 10 + np.arange(20).reshape(10, 2) % 16}, 0.8, 16),
        (Augment(concat=0), {"progressive_resize": 0.5, "resize_epochs": 4}, 4, 40),
        (None, {}, 0, 0),
    ],
    ids=["defaults", "everything", "enlarged", "concatenated", "recombined", "progressive", "unchanged"],
)
def test_augmentation_on_the_device_matches_the_cpu(
    images: np.ndarray, policy: Augment | None, options: dict[str, Any], mean: float, most: float, device: str
) -> None:
    for epoch in (0, 1):
        ours, theirs = both(loader(images, policy, **options), device, epoch)
        apart = (ours - theirs).abs()
        assert apart.mean() <= mean  # grey levels
        assert apart.max() <= most


@pytest.mark.parametrize("device", DEVICES)
def test_both_paths_have_the_same_distribution(images: np.ndarray, device: str) -> None:
    """Compare mean and standard deviation of a pixel and of image brightness over many epochs."""
    one = loader(images, Augment(concat=0, rotate=20, erase=0.3))
    ours, theirs = (
        torch.stack(parts) for parts in zip(*(both(one, device, epoch) for epoch in range(12)), strict=True)
    )
    for statistic in (lambda x: x[..., 16, 24, :], lambda x: x.mean(dim=(-3, -2))):
        assert torch.allclose(statistic(ours).mean(), statistic(theirs).mean(), atol=0.2)
        assert torch.allclose(statistic(ours).std(), statistic(theirs).std(), rtol=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch 2.11's own, when it first compiles
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
def test_compiled_augmentation_gives_the_same_images(images: np.ndarray, device: str) -> None:
    one = loader(images, Augment(concat=0.5, erase=0.5))
    plain, compiled = (on_device(one, torch.device(device), wanted).epoch(0) for wanted in (False, True))
    for left, right in zip(plain, compiled, strict=True):
        assert (left["image"].float() - right["image"].float()).abs().max() <= 1  # 0.5 may be rounded either way


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_no_batch_synchronises_with_the_gpu(images: np.ndarray) -> None:
    served = on_device(loader(images, Augment(concat=0.5, erase=0.5)), torch.device("cuda"), False)
    for epoch, mode in enumerate(("default", "error")):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            assert len(list(served.epoch(epoch))) == len(served)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hflip_ok", [True, False])
def test_views_match_on_both_paths(images: np.ndarray, hflip_ok: bool, device: str) -> None:
    for matrix in tta_views(hflip_ok, SIZE).values():
        theirs = warp_on_device(torch.from_numpy(images).to(device), matrix, hflip_ok).cpu().float()
        assert (theirs - torch.from_numpy(warp_batch(images, matrix, hflip_ok)).float()).abs().mean() < 0.3


def test_draws_differ_between_samples_and_epochs(images: np.ndarray) -> None:
    same = np.broadcast_to(images[:1], images.shape)
    served = on_device(loader(same, Augment(concat=0)), torch.device("cpu"), False)
    seen = [image.numpy().tobytes() for epoch in range(2) for batch in served.epoch(epoch) for image in batch["image"]]
    assert len(set(seen)) == len(seen)


def test_training_from_device_memory_ends_near_training_from_the_cache(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn(num_train=22, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    flags = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--fold", 0)
    losses = {}
    for mode in ("on", "off"):
        code, out, err = podium("train", *flags, "--epochs", 1, "--run-name", mode, "--cache-on-device", mode)
        assert code == 0, err
        losses[mode] = pd.read_csv(tmp_path / "runs" / "svhn" / mode / "fold0" / "log.csv")["loss"][0]
    assert losses["on"] != losses["off"]  # rounding differs
    assert losses["on"] == pytest.approx(losses["off"], rel=0.02)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "fits", lambda *_: False)
        code, out, _ = podium("train", *flags, "--epochs", 1, "--run-name", "short", "--cache-on-device", "on")
    assert code == 0
    assert out.count("images stay in the machine's memory: the GPU has no room for") == 1
    losses["short"] = pd.read_csv(tmp_path / "runs" / "svhn" / "short" / "fold0" / "log.csv")["loss"][0]
    assert losses["short"] == losses["off"]
    effects = ("--run-name", "effects", "--cache-on-device", "on", "--augment.effects", 1)
    code, out, _ = podium("train", *flags, "--epochs", 1, *effects)
    assert code == 0
    assert "images stay in the machine's memory: --augment.effects" in out
