"""What 8 bits cost: each fold's own network, in both precisions, on the images that it was not trained on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.core.errors import InputError
from src.exporting.files import Check, Made, answers_of_onnx, int8_bytes, onnx_bytes
from src.exporting.subject import Subject
from src.inference.ensemble import OutOfFold, out_of_fold
from src.inference.onnx_runtime import exported_program
from src.inference.quality import defined
from src.report.intervals import resampled_difference


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Out-of-fold scores before and after, and the 95% interval of their difference (bootstrap over groups)."""

    score: float
    quantized: float
    interval: tuple[float, float]
    num_images: int

    @property
    def change(self) -> float:
        return self.quantized - self.score

    def describe(self) -> dict[str, Any]:
        """Return what model.json says of it; None where a score is not defined."""
        low, high = self.interval
        found = {"score_float": self.score, "score_int8": self.quantized, "change": self.change}
        numbers = {name: defined(value) for name, value in found.items()}
        interval = [low, high] if math.isfinite(low + high) else None
        return {**numbers, "change_interval_95": interval, "images_scored": self.num_images}


def in_8_bits(subject: Subject, plain: bytes, check: Check) -> Made:
    """Return model_int8.onnx, made from model.onnx, with how far it is from predict and what it costs in score.

    Raises InputError if it cannot be made or run, or does not answer with numbers.
    """
    try:
        data = int8_bytes(plain, len(subject.run.started_record.model.mean))
        facts = check.facts(answers_of_onnx(data, check.loader))
    except InputError as error:
        raise InputError(f"--quantize int8: {error}") from error
    if not math.isfinite(facts["largest_difference"]):
        raise InputError("--quantize int8: the network then answers with values that are not finite; leave it out")
    return Made(data, {**facts, **measure(subject).describe()})


def measure(subject: Subject) -> Loss:
    """Return the scores of the held-out images, answered by each fold's own network in 32 and in 8 bits."""
    both: list[dict[int, dict[str, np.ndarray]]] = [{}, {}]
    for fold in subject.folds:
        paths, rows = subject.held_out(fold)
        loader = subject.loader(rows)
        plain = onnx_bytes(subject, exported_program(subject.graph([fold]), subject.example()))
        small = int8_bytes(plain, len(subject.run.started_record.model.mean))
        for found, data in zip(both, (plain, small), strict=True):
            answers = answers_of_onnx(data, loader)
            name = "probabilities_tta" if subject.predictor.tta else "probabilities"
            found[fold.number] = {"image_path": np.array(paths), name: answers}
        print(f"fold {fold.number}: {len(paths):,} held-out images in both precisions", flush=True)
    tta = subject.predictor.tta
    one, other = (out_of_fold(subject.run, subject.numbers, tta, predicted) for predicted in both)
    return compared(one, other)


def compared(one: OutOfFold, other: OutOfFold) -> Loss:
    """Return the paired comparison of two sets of predictions for the same images."""
    interval = resampled_difference([one], [other])
    return Loss(score=one.score, quantized=other.score, interval=interval, num_images=len(one.target))
