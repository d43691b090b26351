"""What is exported: some folds of a run and their views; and what predict answers with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.core.runtime import choose_compute
from src.data.loader import Loader, unlabelled
from src.exporting.graph import AnsweringGraph
from src.inference.ensemble import fitted_rule, views_of, weighted_mean
from src.inference.onnx_runtime import INPUT
from src.inference.predictor import Predictor
from src.runs.fold import TrainedFold
from src.runs.run import Run


def output_names(heads: Sequence[str]) -> list[str]:
    """Return the names of a file's outputs: those of the heads, but for one that is called like the input."""
    other = f"{INPUT}_"
    while other in heads:
        other += "_"
    return [other if name == INPUT else name for name in heads]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Folds of a run that are exported together, and the Predictor that they are compared with: on the CPU in fp32."""

    run: Run
    folds: tuple[TrainedFold, ...]
    predictor: Predictor

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(fold.number for fold in self.folds)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the networks see."""
        return self.run.started_record.model.image_size

    @property
    def outputs(self) -> list[str]:
        """The names of the file's outputs."""
        return output_names([head.name for head in self.run.competition.heads])

    def graph(self, folds: Sequence[TrainedFold]) -> AnsweringGraph:
        """Return the module that answers with the mean of these folds."""
        networks, competition = [self.run.load_network(fold) for fold in folds], self.run.competition
        views = list(self.predictor.views(self.size).values())[1:]
        return AnsweringGraph(networks, competition.layout, self.size, views, competition.hflip_ok).eval()

    def loader(self, rows: np.ndarray) -> Loader:
        """Serve rows of the training cache as the networks see them."""
        cache = self.run.prepared.cache("train", self.run.started_record.cache_size)
        return unlabelled(cache.images, rows, self.size, self.run.competition.hflip_ok)

    def held_out(self, fold: TrainedFold) -> tuple[list[str], np.ndarray]:
        """Return the paths of a fold's held-out images, and their rows in the training cache."""
        table = self.run.prepared.folds
        paths = table["image_path"][table["fold"] == fold.number].tolist()
        return paths, self.run.prepared.cache("train", self.run.started_record.cache_size).rows_of(paths)

    def expected(self, rows: np.ndarray) -> np.ndarray:
        """Return what predict answers for rows of the training cache, (N, num_outputs)."""
        networks = (self.run.load_network(fold) for fold in self.folds)
        found = [self.predictor.predict(network, self.loader(rows)).mean for network in networks]
        return weighted_mean(found, [1.0] * len(found))

    def example(self) -> torch.Tensor:
        """Return two black images, (2, H, W, C)."""
        how = self.run.prepared.decoding
        return torch.from_numpy(np.zeros((2, *self.size, how.channels), how.dtype))

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the file needs: how images are made, and what the outputs mean."""
        record, competition, how = self.run.started_record, self.run.competition, self.run.prepared.decoding
        sizes = [record.cache_size] + [self.size] * (self.size != record.cache_size)
        return {
            "competition": competition.name,
            "run": self.run.name,
            "run_id": self.run.id,
            "snapshot": self.run.prepared.id,
            "folds": list(self.numbers),
            "views": list(self.predictor.views(self.size)),
            "sizes": [list(size) for size in sizes],  # stretched or fitted to the first, then stretched to the next
            "fit": how.fit,
            "is_cropped": self.run.prepared.is_cropped,  # whether it learned from parts of images, see prepare --crops
            "bands": how.bands,
            "depth": how.depth,
            "heads": [
                {
                    "name": head.name,
                    "output": output,
                    "kind": head.kind,
                    "classes": list(head.classes),
                    "required": head.required,
                }
                for head, output in zip(competition.heads, self.outputs, strict=True)
            ],
            "pad_class": competition.pad_class,
            "none_class": competition.none_class,
            "num_answers": competition.num_answers,
            "separator": competition.separator,
            "rule": [list(cuts) for cuts in fitted_rule([self.run], self.numbers, self.predictor.tta).cuts],
        }


def open_subject(run: Run, folds: tuple[int, ...] | None, tta: bool) -> Subject:
    """Open folds of a run, and the views that predict would use. Raises InputError."""
    trained = run.trained(folds)
    predictor = Predictor(
        competition=run.competition,
        compute=choose_compute("cpu", "fp32"),
        tta=tta,
        view_names=views_of(run, trained, tta),
    )
    return Subject(run=run, folds=tuple(trained), predictor=predictor)
