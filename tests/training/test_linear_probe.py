"""Linear probe: only the last layer changes, the result is an ordinary network, an interruption loses nothing."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from src.competitions import food11
from src.competitions.layout import HeadLayout
from src.config import Augment
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.core.signals import Stopped
from src.data import loader as loading
from src.data.loader import Loader
from src.models.build import build_model
from src.models.network import Network, Normalise
from src.training import trainer as loop
from src.training.features import FeatureStore, _keep
from src.training.linear_probe import Features, LinearProbe, serve_features, with_linear_probe
from tests.fixtures import MakeSvhn, Podium, Train
from tests.helpers import classifier, feature_files

FLAGS = ("--backbone", "test_resnet", "--mixup", 0, "--freeze-backbone", "--lr", 0.01)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    save_file(build_model("test_resnet", HeadLayout((12,)), (32, 48)).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_only_the_last_layer_changes_and_predict_reads_the_result(train: Train, podium: Podium, weights: Path) -> None:
    folder, ended = train("frozen", *FLAGS, "--weights", weights)
    assert ended.code == 0, ended.err
    given, kept = load_file(weights), load_file(folder / "last.safetensors")
    for key, value in given.items():
        if key.startswith("fc."):
            assert kept[f"backbone.{key}"].abs().sum() > 0
        else:
            assert torch.equal(kept[f"backbone.{key}"], value), key
    assert podium("predict", "--run-name", "frozen").code == 0


def test_an_interrupted_training_gives_the_same_result(
    train: Train, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = train("straight", *FLAGS, "--weights", weights)
    calls = iter(range(10))
    original = loop.train_step

    def interrupted(*args: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 3:  # in the second epoch
            raise Stopped(signal.SIGINT)
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        folder, ended = train("cut", *FLAGS, "--weights", weights)
    assert ended.code == 130
    assert (folder / "last.pt").exists()
    assert train("cut", *FLAGS, "--weights", weights)[1].code == 0
    assert (folder / "last.safetensors").read_bytes() == (straight / "last.safetensors").read_bytes()
    assert "already trained" in train("cut", *FLAGS, "--weights", weights)[1].out


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "tf_efficientnet_lite0"])
def test_the_last_layer_on_features_gives_the_logits_of_the_network(name: str) -> None:
    model = build_model(name, HeadLayout((12,)), (32, 64))
    torch.nn.init.normal_(classifier(model).weight)
    network = Network(model, Normalise((0.5,) * 3, (0.25,) * 3, 64)).eval()
    images = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(LinearProbe(network).eval()(network.features(images)), network(images), atol=1e-5)


def test_features_of_all_batches_are_in_the_caches_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "INFERENCE_BATCH_SIZE", 4)
    images, rows = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8), np.arange(7)[::-1].copy()
    network = Network(build_model("test_resnet", HeadLayout((11,)), (32, 32)), Normalise((0.5,) * 3, (0.25,) * 3, 32))
    loader = Loader(
        images=images, rows=rows, targets=rows[:, None], image_size=(32, 32), batch_size=3, policy=Augment(hflip=0.5)
    )
    competition, compute = food11.COMPETITION, choose_compute("cpu", "fp32")
    store = FeatureStore(cache=tmp_path / "cache.npy", network="test_resnet ()")
    served, _ = serve_features(network, loader, loader.in_order(), competition, compute, store)
    with torch.no_grad():
        expected = network.features(torch.from_numpy(images))
        flipped = network.features(torch.from_numpy(np.ascontiguousarray(images[:, :, ::-1])))
    assert len(expected.unique(dim=0)) == 10
    torch.testing.assert_close(served.views[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(served.views[1], flipped, atol=1e-5, rtol=0)
    for epoch, wanted in enumerate((expected, flipped)):
        for batch in served.epoch(epoch):
            torch.testing.assert_close(batch["image"], wanted[batch["target"][:, 0]], atol=1e-5, rtol=0)


def test_features_are_computed_once_for_all_folds_and_runs(
    svhn: MakeSvhn, podium: Podium, weights: Path, tmp_path: Path
) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    flags = (*FLAGS, "--weights", weights, "--image-size", 32, 48, "--batch-size", 4, "--epochs", 2)
    assert podium("train", *flags).out.count("computing features") == 1  # of two folds
    (kept,) = feature_files(tmp_path / "runs/svhn")
    other = podium("train", *flags, "--lr", 0.02, "--run-name", "other")
    assert (other.code, "computing features" in other.out) == (0, False)
    data = kept.read_bytes()
    middle = len(data) // 2
    for damage in (
        lambda: kept.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]),
        kept.unlink,
    ):
        damage()
        again = podium("train", *flags, "--run-name", "again", "--restart")
        assert again.out.count("computing features") == 1
        assert kept.read_bytes() == data
        for fold in ("fold0", "fold1"):
            weights_of = [tmp_path / "runs/svhn" / run / fold / "last.safetensors" for run in ("baseline", "again")]
            assert weights_of[0].read_bytes() == weights_of[1].read_bytes()
    assert podium("prepare", "--prune").code == 0
    assert not kept.exists()


@pytest.mark.parametrize("change", ["weights", "options", "size"])
def test_features_of_another_network_or_size_are_others(
    svhn: MakeSvhn, podium: Podium, weights: Path, tmp_path: Path, change: str
) -> None:
    svhn()
    assert podium("prepare", "--num-folds", 2).code == 0
    flags = (*FLAGS, "--weights", weights, "--batch-size", 4, "--epochs", 1, "--fold", 0)
    assert podium("train", *flags, "--image-size", 32, 48).code == 0
    size = (32, 64) if change == "size" else (32, 48)
    options = ("--backbone-options", "global_pool=max") if change == "options" else ()
    if change == "weights":
        torch.manual_seed(6)
        save_file(build_model("test_resnet", HeadLayout((12,)), (32, 48)).state_dict(), weights)
    ended = podium("train", *flags, "--image-size", *size, *options, "--run-name", "new")
    assert "computing features" in ended.out, ended.err
    assert len(feature_files(tmp_path / "runs/svhn")) == 2


def test_a_full_disk_costs_the_kept_features_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a file"
    folder.write_text("")
    _keep(folder / "features.npz", torch.zeros(2, 3))
    assert "was not kept" in capsys.readouterr().out


def test_views_alternate_and_each_image_keeps_its_features_and_target() -> None:
    rows = np.arange(10)
    loader = Loader(
        images=np.zeros((10, 8, 8, 3), np.uint8), rows=rows, targets=rows[:, None], image_size=(8, 8), batch_size=4
    )
    plain = torch.arange(10.0)[:, None]
    served = Features(loader=loader, views=[plain, -plain])
    for epoch, sign in ((0, 1), (1, -1), (2, 1)):
        batches = list(served.epoch(epoch))
        assert len(batches) == len(served)
        for batch in batches:
            assert torch.equal(batch["image"][:, 0] * sign, batch["target"][:, 0].float())
            assert torch.equal(batch["index"], batch["target"][:, 0])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--backbone", "svhn_cnn"), "features of random weights are useless"),
        (
            ("--backbone", "test_resnet", "--mixup", 0.2),
            "mixup, cutmix, progressive-resize and aug-repeats need images",
        ),
        (("--backbone", "test_resnet", "--aug-repeats", 2), "progressive-resize and aug-repeats need images"),
        (
            ("--backbone", "test_resnet", "--progressive-resize", 0.5),
            "mixup, cutmix, progressive-resize and aug-repeats need images",
        ),
    ],
)
def test_flags_that_need_images_and_nets_without_pretrained_features_are_refused(
    train: Train, flags: tuple[object, ...], words: str
) -> None:
    _, ended = train("run", "--mixup", 0, *flags, "--freeze-backbone")
    assert ended.code == 2
    assert words in ended.err


def test_a_network_without_forward_features_is_refused() -> None:
    network = Network(build_model("svhn_cnn", HeadLayout((12,)), (32, 64)), Normalise((0.5,) * 3, (0.25,) * 3, 64))
    with pytest.raises(InputError, match="--freeze-backbone"):
        LinearProbe(network)


def test_progressive_resize_changes_training_and_is_refused_for_too_small_images(train: Train) -> None:
    _, ended = train("small", "--progressive-resize", 0.5)
    assert ended.code == 0, ended.err
    _, full_size = train("full_size")
    assert ended.out.split("SHA-256")[1] != full_size.out.split("SHA-256")[1]
    _, ended = train("refused", "--backbone", "svhn_cnn", "--progressive-resize", 0.5)
    assert ended.code == 2
    assert "takes no images of 16x24" in ended.err


def test_the_trained_layer_is_a_copy_of_the_networks() -> None:
    """Copying a moving average into the network must not change the weights being trained."""
    network = Network(build_model("test_resnet", HeadLayout((12,)), (32, 64)), Normalise((0.5,) * 3, (0.25,) * 3, 64))
    trained, average = LinearProbe(network), LinearProbe(network)
    torch.nn.init.ones_(average.layer.weight)
    assert classifier(with_linear_probe(network, average).backbone).weight.min() == 1
    assert trained.layer.weight.abs().max() == 0
