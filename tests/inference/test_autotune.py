"""Autotune picks the fastest way to predict; probabilities do not depend on what it picks."""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from src.competitions import svhn
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.data.loader import Loader
from src.inference import autotune, onnx_runtime
from src.inference.predictor import predict_probabilities
from src.models.network import Network, Normalise

CPU = choose_compute("cpu", "fp32")


def loader(count: int = 10) -> Loader:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 16, 3), dtype=np.uint8)
    return Loader(
        images=images,
        rows=np.arange(count),
        targets=np.zeros((count, 0), np.int64),
        image_size=(8, 16),
        batch_size=256,
    )


def network() -> Network:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 14, 66))
    return Network(backbone, Normalise((0.5,) * 3, (0.25,) * 3, 16))


def rates(monkeypatch: pytest.MonkeyPatch, rate_of: Callable[[int], float]) -> None:
    monkeypatch.setattr(autotune, "images_per_second", lambda forward, images, compute: rate_of(len(images)))


def test_few_images_are_predicted_without_a_trial() -> None:
    net = network()
    net.forward = lambda images: pytest.fail("tried")  # type: ignore[method-assign]
    forward, served, _ = autotune.fastest(net, loader(), CPU, 5, None, "auto")
    assert forward is net
    assert served.batch_size == autotune.INFERENCE_BATCH_SIZE
    assert autotune.fastest(net, loader(), CPU, 5, 7, "auto")[1].batch_size == 7


def test_the_fastest_batch_size_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, lambda size: {64: 1.0, 256: 2.0, 512: 4.0, 1024: 3.0}[size])
    assert autotune.best_batch_size(network(), torch.zeros(10, 8, 16, 3), CPU) == 512


def test_a_speedup_within_noise_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, lambda size: 1.03 if size == 64 else 1.0)
    assert autotune.best_batch_size(network(), torch.zeros(10, 8, 16, 3), CPU) == autotune.INFERENCE_BATCH_SIZE


@pytest.mark.parametrize(("capacity", "best"), [(600, 512), (300, 256), (100, 64)])
def test_batch_sizes_that_do_not_fit_in_memory_are_skipped(capacity: int, best: int) -> None:
    net = network().eval()

    def forward(images: torch.Tensor) -> torch.Tensor:
        if len(images) > capacity:
            raise torch.OutOfMemoryError("out of memory")
        time.sleep(0.01)  # so larger batches are faster
        return net(images)

    with torch.inference_mode():
        assert autotune.best_batch_size(forward, torch.zeros(10, 8, 16, 3, dtype=torch.uint8), CPU) == best


def test_tuning_is_skipped_if_even_a_small_batch_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, lambda size: 0.0)
    net = network()
    assert autotune.fastest(net, loader(600), CPU, 5, None, "auto")[0] is net


def compiling(monkeypatch: pytest.MonkeyPatch, quick: Callable[[torch.Tensor], torch.Tensor], gain: float) -> None:
    """Make torch.compile return `quick`, which is `gain` times as fast as a very slow network."""
    monkeypatch.setattr(torch, "compile", lambda network, **options: quick)

    def rate(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, compute: object) -> float:
        if forward is quick:
            quick(images[:1])
        return 0.01 * (gain if forward is quick else 1)

    monkeypatch.setattr(autotune, "images_per_second", rate)
    monkeypatch.setattr(autotune, "has_compiler", lambda: True)


@pytest.mark.parametrize(("gain", "used"), [(1.6, True), (1.01, False)])
def test_a_compiled_network_is_used_if_faster(monkeypatch: pytest.MonkeyPatch, gain: float, used: bool) -> None:
    net, calls = network(), []

    def quick(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return net(images)

    compiling(monkeypatch, quick, gain)
    forward, served, _ = autotune.fastest(net, loader(602), CPU, 5, 100, "auto", layout=svhn.COMPETITION.layout)
    found, _ = predict_probabilities(net, served, svhn.COMPETITION.layout, CPU, forward=forward)
    assert calls == [1] + ([100] * 7 if used else [])  # one to compare; the last batch has only two images
    expected, _ = predict_probabilities(net, loader(602), svhn.COMPETITION.layout, CPU)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_failing_compiler_is_an_error_only_if_compile_is_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quick(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such instruction\nand a long story")

    compiling(monkeypatch, quick, 2.0)
    net = network()
    assert autotune.fastest(net, loader(600), CPU, 5, None, "auto")[0] is net
    assert capsys.readouterr().out == "predicting without torch.compile, which fails here\n"
    with pytest.raises(InputError, match=r"--compile on: torch.compile fails here \(no such instruction\)$"):
        autotune.fastest(net, loader(600), CPU, 5, None, "on")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_network_that_answers_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    net, compute, layout = network(), choose_compute("cpu", precision), svhn.COMPETITION.layout
    compiling(monkeypatch, lambda images: net(images).flip(1), 2.0)
    assert autotune.fastest(net, loader(600), compute, 5, None, "auto", layout=layout)[0] is net
    assert "predicting without torch.compile, which differs by " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--compile on: differs by .* from the plain network; use --compile off"):
        autotune.fastest(net, loader(600), compute, 5, None, "on", layout=layout)
    compiling(monkeypatch, lambda images: net(images.clone()), 2.0)
    assert autotune.fastest(net, loader(600), compute, 5, None, "on", layout=layout)[2] == "torch.compile"


class Fail(Exception):
    """As ONNX Runtime's: a child of Exception alone."""


@pytest.mark.parametrize("when", ["open_session", "run_session"])
def test_a_network_that_onnx_runtime_cannot_run_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    class Session:
        def __init__(self, *options: object, **more: object) -> None:
            if when == "open_session":
                raise Fail("NOT_IMPLEMENTED : GridSample(99)\nand a long story")

        def run(self, outputs: None, images: dict[str, np.ndarray]) -> list[np.ndarray]:
            raise Fail("NOT_IMPLEMENTED : GridSample(99)\nand a long story")

    runtime = SimpleNamespace(InferenceSession=Session, SessionOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(onnx_runtime, "exported_program", lambda network, images: None)
    monkeypatch.setattr(
        onnx_runtime, "onnx_model", lambda program, outputs: SimpleNamespace(SerializeToString=lambda: b"")
    )
    net, reason = network().eval(), "ONNX Runtime cannot run this network (NOT_IMPLEMENTED : GridSample(99))"
    with torch.inference_mode():
        assert autotune.by_onnx(net, loader(), CPU, svhn.COMPETITION.layout, "auto") is None
        assert capsys.readouterr().out == f"predicting without ONNX Runtime, which fails here: {reason}\n"
        with pytest.raises(InputError) as refused:
            autotune.by_onnx(net, loader(), CPU, svhn.COMPETITION.layout, "onnx")
    assert str(refused.value) == f"--engine onnx: {reason}"


def test_compile_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "has_compiler", lambda: False)
    autotune.check_compile(False)
    with pytest.raises(InputError, match="--compile: needs a C"):
        autotune.check_compile(True)


@pytest.mark.slow
@pytest.mark.skipif(not autotune.has_compiler(), reason="needs a C++ compiler")
def test_a_compiled_network_gives_the_same_probabilities() -> None:
    net = network().eval()
    forward, served, _ = autotune.fastest(net, loader(), CPU, 5, 4, "on")
    found, _ = predict_probabilities(net, served, svhn.COMPETITION.layout, CPU, forward=forward)
    expected, _ = predict_probabilities(net, loader(), svhn.COMPETITION.layout, CPU)
    np.testing.assert_allclose(found, expected, atol=1e-5)
