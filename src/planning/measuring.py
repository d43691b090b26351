"""Images a second of a recipe on this machine, from a few steps on synthetic images."""

import time
from dataclasses import replace

import numpy as np
import torch

from src.competitions.spec import Competition
from src.config import BenchConfig, TrainConfig
from src.core.runtime import Compute
from src.inference.predictor import Predictor
from src.planning.plan import Rates
from src.training.benchmark import Parts, parts_of
from src.training.setup import check_flags
from src.training.step import train_step

MIN_STEPS = 3


def rates_of(config: TrainConfig, competition: Competition, compute: Compute, seconds: float) -> Rates:
    """Return images a second of training and of predicting, each timed for about this long. Raises InputError."""
    values = {name: value for name, value in vars(config).items() if name != "freeze_backbone"}
    bench = BenchConfig(**values)
    check_flags(bench, competition)
    parts = parts_of(replace(bench, weights=None, pretrained=False), competition, compute)
    return Rates(train=_train_rate(bench, parts, seconds), predict=_predict_rate(parts, seconds))


def _train_rate(config: BenchConfig, parts: Parts, seconds: float) -> float:
    """Return the images of a step by the median of its seconds, loading included, after one that warms up."""
    batches = (batch for epoch in range(10**9) for batch in parts.served.epoch(epoch))
    parts.state.network.train()
    spent: list[float] = []
    while len(spent) <= MIN_STEPS or sum(spent) < seconds:
        started = time.perf_counter()
        train_step(parts.state, next(batches), parts.competition.layout, config.lr, parts.compute, config)
        if parts.compute.device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - started)
    return config.batch_size / float(np.mean(sorted(spent[1:])[: max(1, int(0.9 * len(spent)))]))


def _predict_rate(parts: Parts, seconds: float) -> float:
    predictor = Predictor(competition=parts.competition, compute=parts.compute, tta=False)
    done, spent = 0, 0.0
    while done < 2 * len(parts.loader.rows) and (done == 0 or spent < seconds):
        started = time.perf_counter()
        predictor.predict(parts.state.scored, parts.loader)
        spent += time.perf_counter() - started
        done += len(parts.loader.rows)
    return done / spent
