"""python -m src.bench measures without data, and refuses the flags that src.train refuses."""

import re
from typing import Any

import pytest
import torch

from src.data.loader import Batch
from src.training import benchmark
from src.training.step import TrainState, train_step
from tests.fixtures import Podium

FLAGS = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--steps", 3)


def test_loader_step_both_and_inference_are_measured_without_data(
    podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.training.benchmark.NUM_IMAGES", 16)
    steps: list[Batch] = []

    def counted(state: TrainState, batch: Batch, *rest: Any) -> torch.Tensor:
        steps.append(batch)
        return train_step(state, batch, *rest)

    monkeypatch.setattr(benchmark, "train_step", counted)
    code, out, err = podium("bench", *FLAGS)
    assert code == 0, err
    rates = dict(re.findall(r"^(loader|step|both|inference) +([\d,]+) images/s", out, flags=re.MULTILINE))
    assert set(rates) == {"loader", "step", "both", "inference"}
    assert all(int(rate.replace(",", "")) > 0 for rate in rates.values())
    assert len(steps) == 2 * (3 + 2)  # "step" and "both", each timed three times after two to warm up
    assert re.search(r"waiting for data [\d.]+% of the time; peak memory [\d,]+ MiB", out)


@pytest.mark.parametrize(
    ("flags", "word"),
    [(("--steps", 2), "--steps 2"), (("--epochs", 0), "--epochs 0"), (("--competition", "nowhere"), "nowhere")],
)
def test_invalid_flags_are_refused(podium: Podium, flags: tuple[object, ...], word: str) -> None:
    code, _, err = podium("bench", *FLAGS, *flags)
    assert code == 2
    assert word in err
