"""Images a second of a recipe on this machine, from a few steps on synthetic images."""

import time
from dataclasses import replace

import numpy as np

from src.competitions.spec import Competition
from src.config import BenchConfig, TrainConfig
from src.core.runtime import Compute, wait_for
from src.inference.predictor import Predictor
from src.planning.plan import Rates
from src.training.benchmark import Parts, parts_of
from src.training.checks import check_flags
from src.training.step import train_step

MIN_STEPS = 3
TRIAL = 8  # images of the first, small batch
PATIENCE = 4.0  # times the wanted seconds, beyond which the small batch's rate is taken


def rates_of(config: TrainConfig, competition: Competition, compute: Compute, seconds: float) -> Rates:
    """Return images a second of training and of predicting, each timed for about this long. Raises InputError.

    A small batch comes first: if a few whole ones would take much longer than that, its rate must do.
    """
    bench = BenchConfig(**{**vars(config), "freeze_backbone": False})
    check_flags(bench, competition)
    trial = replace(bench, batch_size=min(TRIAL, bench.batch_size))
    parts = parts_of(trial, competition, compute)
    train = _train_rate(trial, parts, 0.0, 1)
    predict = _predict_rate(parts, TRIAL, 0.0)
    if (MIN_STEPS + 1) * bench.batch_size / train < PATIENCE * seconds:
        train = _train_rate(bench, parts_of(bench, competition, compute), seconds, MIN_STEPS)
    if len(parts.loader.rows) / predict < PATIENCE * seconds:
        predict = _predict_rate(parts, len(parts.loader.rows), seconds)
    return Rates(train=train, predict=predict)


def _train_rate(config: BenchConfig, parts: Parts, seconds: float, steps: int) -> float:
    """Return the images of a step by the mean of its seconds, loading included, after one that warms up."""
    batches = (batch for epoch in range(10**9) for batch in parts.served.epoch(epoch))
    parts.state.network.train()
    spent: list[float] = []
    while len(spent) <= steps or sum(spent) < seconds:
        started = time.perf_counter()
        train_step(parts.state, next(batches), parts.competition.layout, config.lr, parts.compute, config)
        wait_for(parts.compute.device)
        spent.append(time.perf_counter() - started)
    return config.batch_size / float(np.mean(spent[1:]))


def _predict_rate(parts: Parts, count: int, seconds: float) -> float:
    """Return the rate of predicting `count` images, as often as fits into the seconds."""
    predictor = Predictor(competition=parts.competition, compute=parts.compute, tta=False)
    loader = replace(parts.loader, rows=parts.loader.rows[:count], targets=parts.loader.targets[:count])
    done, spent = 0, 0.0
    while done == 0 or spent < seconds:
        started = time.perf_counter()
        predictor.predict(parts.state.scored, loader)
        spent += time.perf_counter() - started
        done += count
    return done / spent
