"""From an image file's bytes to an answer: decoded as prepare does, predicted and decided as predict does."""

import base64
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from src.competitions.decision import Rule, class_probabilities, decide
from src.competitions.spec import Competition, Head, check_has_answers
from src.config import ServeConfig
from src.core.runtime import choose_compute, to_device
from src.data.decoding import decode
from src.data.images import Decoding, fitted, resize
from src.data.levels import thumbnails
from src.data.loader import unlabelled
from src.inference.answers import texts_of
from src.inference.autotune import TRIAL_IMAGES, Forward, by_onnx
from src.inference.ensemble import fitted_rule, views_of, weighted_mean
from src.inference.onnx_runtime import check_engine
from src.inference.predictor import Predictor, predict_probabilities
from src.inference.saliency import saliency
from src.models.network import Network
from src.runs.run import Run, open_run

DARKEST = 0.2  # of an image's brightness, where nothing spoke for the answer
MAX_SHOWN = 10  # classes of a head in a response, the likeliest, unless all are asked for


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """A run's networks, ready to answer; `images` are (N, H, W, C) as the networks see them."""

    run: Run
    networks: tuple[nn.Module, ...]
    forwards: tuple[Forward, ...]  # of each network, what runs it
    predictor: Predictor
    rule: Rule
    how: Decoding
    folds: tuple[int, ...]
    lock: Lock = field(default_factory=Lock)

    @property
    def competition(self) -> Competition:
        return self.run.competition

    @property
    def size(self) -> tuple[int, int]:
        return self.run.started_record.model.image_size

    def facts(self) -> dict[str, Any]:
        """Return what the page and the API say of the run."""
        competition, views = self.competition, list(self.predictor.views(self.size))
        return {
            "competition": competition.name,
            "run": self.run.name,
            "run_id": self.run.id,
            "network": self.run.started_record.model.backbone,
            "image_size": list(self.size),
            "folds": list(self.folds),
            "views": views,
            "heads": [
                {"name": head.name, "kind": head.kind, "classes": head.num_classes} for head in competition.heads
            ],
        }

    def summary(self) -> str:
        """Return a line for the terminal."""
        folds, views = len(self.networks), len(self.predictor.views(self.size))
        note = (
            "; it learned from images cut by prepare --crops: send such parts" if self.run.prepared.is_cropped else ""
        )
        return f"{self.run.name}: {folds} fold{'s' * (folds > 1)}, {views} view{'s' * (views > 1)} of each image{note}"

    def read(self, data: bytes) -> np.ndarray:
        """Return an image file as the networks see it, (H, W, C). Raises ImageProblem, MemoryError."""
        seen = fitted(decode(data, self.how), self.run.started_record.cache_size, self.how.fit, self.how.bars)
        return resize(seen, self.size)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the mean over folds and views, (N, num_outputs)."""
        loader = unlabelled(images, np.arange(len(images)), self.size, self.competition.hflip_ok)
        views = list(self.predictor.views(self.size).values())[1:]
        layout, compute = self.competition.layout, self.predictor.compute
        found = [
            predict_probabilities(network, loader, layout, compute, views, forward).mean
            for network, forward in zip(self.networks, self.forwards, strict=True)
        ]
        return weighted_mean(found, [1.0] * len(found))

    def looked_at(self, images: np.ndarray) -> list[str]:
        """Return a PNG as data URL of each image, dark where nothing spoke for the first network's answer."""
        network = self.networks[0]
        assert isinstance(network, Network)
        with self.lock:  # it listens to the network's modules, so one at a time
            found = saliency(network, images, self.competition.layout, device=self.predictor.compute.device)
        seen = thumbnails(images) * (DARKEST + (1 - DARKEST) * found[..., None])
        files = (cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in seen.astype(np.uint8))
        return ["data:image/png;base64," + base64.b64encode(data).decode() for data in files]

    def describe(self, predicted: np.ndarray, all_classes: bool = False) -> list[dict[str, Any]]:
        """Return what a response says of each image, from predictions (N, num_outputs), with few or all classes."""
        decided = decide(predicted, self.competition, self.rule)
        texts = texts_of(predicted, decided, self.competition, self.rule)
        parts = [
            [_described(head, row, None if all_classes else MAX_SHOWN) for row in part]
            for head, part in zip(self.competition.heads, self.competition.layout.split(predicted), strict=True)
        ]
        return [{"answer": text, "heads": [part[row] for part in parts]} for row, text in enumerate(texts)]


def _described(head: Head, values: np.ndarray, most: int | None) -> dict[str, Any]:
    """Return a head's answer: the `most` likeliest classes or labels and their probabilities, or the number."""
    if head.kind == "number":
        return {"name": head.name, "kind": head.kind, "value": float(values[0])}
    shares = class_probabilities(values[None], head)[0]
    order = np.argsort(-shares, kind="stable")[:most]
    top = [{"name": head.classes[place], "probability": round(float(shares[place]), 6)} for place in order]
    return {"name": head.name, "kind": head.kind, "probabilities": top}


def open_answerer(config: ServeConfig) -> Answerer:
    """Load a run's networks. Raises InputError for a run or an engine that cannot be used."""
    compute = choose_compute(config.device, config.precision)
    check_engine(config.engine, compute)
    run = open_run(config, config.run_name)
    check_has_answers(run.competition)
    trained, competition = run.trained(config.folds), run.competition
    numbers = tuple(fold.number for fold in trained)
    wanted = views_of(run, trained, config.tta)
    predictor = Predictor(competition=competition, compute=compute, tta=config.tta, view_names=wanted)
    networks = tuple(to_device(run.load_network(fold), compute) for fold in trained)
    forwards: list[Forward] = list(networks)
    if config.engine == "onnx":
        images = run.prepared.cache("train", run.started_record.cache_size).images[:TRIAL_IMAGES]
        loader = unlabelled(images, np.arange(len(images)), run.started_record.model.image_size, competition.hflip_ok)
        with torch.inference_mode():
            quick = [by_onnx(network, loader, compute, competition.layout, "onnx") for network in networks]
        forwards = [forward for forward in quick if forward]
    return Answerer(
        run=run,
        networks=networks,
        forwards=tuple(forwards),
        predictor=predictor,
        rule=fitted_rule([run], numbers, config.tta),
        folds=numbers,
        how=run.prepared.decoding._replace(max_pixels=config.max_pixels),
    )
