"""Which epoch's weights a fold keeps, and when it stops early."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from src.competitions import svhn as street
from src.core.runtime import choose_compute
from src.data.loader import Loader
from src.inference import predictor as predicting
from src.inference.predictor import predict_probabilities
from src.runs.checkpoint import load_model
from src.runs.run import build_network
from src.training import fold as folding
from src.training import trainer as loop
from tests.fixtures import Train
from tests.helpers import run_at, train_cache
from tests.training.test_fold import arrays, log_rows


def scripted_scores(patch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Make the epochs score this, and any later ones 0."""
    remaining: Iterator[float] = iter([*scores, *[0.0] * 10])
    patch.setattr(predicting, "score_of", lambda *_: next(remaining))
    patch.setattr(folding, "score_of", lambda *_: 0.0)


def test_early_stopping_ends_training_after_that_many_epochs_without_improvement(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_scores(monkeypatch, [0.2, 0.4, 0.3, 0.4, 0.9])
    folder, _ = train("run", "--epochs", 8, "--early-stopping", 2)
    assert [row["score"] for row in log_rows(folder)] == ["0.2", "0.4", "0.3", "0.4"]
    assert run_at(folder.parent).open_fold(0).result.epochs == 4


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_weights_make_the_out_of_fold_predictions(
    train: Train, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    scripted_scores(monkeypatch, [0.9, 0.1, 0.9])
    folder, _ = train("run", "--keep", keep, "--lr", 0.05)
    cache = train_cache(folder.parent)
    oof = arrays(folder)
    loader = Loader(
        images=cache.images,
        rows=cache.rows_of(oof["image_path"].tolist()),
        targets=np.zeros((len(oof["image_path"]), 0), np.int64),
        image_size=(32, 48),
        batch_size=5,
    )
    model = run_at(folder.parent).started_record.model
    made = {}
    for name in ("best", "last"):
        network = load_model(folder / f"{name}.safetensors", build_network(model), "train again")
        made[name], _ = predict_probabilities(network, loader, street.COMPETITION.layout, choose_compute("cpu", "fp32"))
    other = {"best": "last", "last": "best"}[keep]
    np.testing.assert_allclose(made[keep], oof["probabilities"], atol=1e-5)
    assert abs(made[other] - oof["probabilities"]).max() > 1e-3


def test_the_best_weights_are_those_of_the_first_best_epoch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    logits: list[torch.Tensor] = []
    images = torch.randint(0, 256, (3, 32, 48, 3), dtype=torch.uint8)
    save = loop.Trainer.save

    def remember(trainer: loop.Trainer) -> None:
        kept.append({key: value.clone() for key, value in trainer.state.scored.state_dict().items()})
        logits.append(trainer.state.scored.eval()(images).detach())
        save(trainer)

    monkeypatch.setattr(loop.Trainer, "save", remember)
    scripted_scores(monkeypatch, [0.1, 0.5, 0.5])
    folder, _ = train("run")
    network = build_network(run_at(folder.parent).started_record.model)
    for name, epoch in (("best", 2), ("last", 3)):
        for key, value in load_model(folder / f"{name}.safetensors", network, "").state_dict().items():
            assert torch.equal(value, kept[epoch - 1][key])
        # Rebuilt from the run directory alone, the network gives the same logits as during training.
        assert torch.allclose(network.eval()(images), logits[epoch - 1], atol=1e-5)
