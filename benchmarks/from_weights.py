"""What is gained without more training: views chosen out of fold, the mean of several networks' answers or weights.

    python -m benchmarks.from_weights --run-name one-base-s0 one-base-s1 one-base-s2

The runs are seeds of one recipe that began with the same pretrained weights, trained on the same folds. A soup is one
network with the mean of their weights (Wortsman et al., Model soups, 2022); the means and variances of its batch norm
are averaged too, or counted anew on training images. Views are chosen on four fifths of the held-out images for the
others, as evaluate does with --views auto. Prints a table; the score of each row is over the same held-out images.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from itertools import islice

import numpy as np
import torch
from torch import nn

from src.config import Paths, TrainConfig
from src.core import cli
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.data.loader import Loader
from src.inference.ensemble import out_of_fold, weighted_mean
from src.inference.predictor import Predictor
from src.inference.views import choose_views
from src.metrics import score_of
from src.runs.run import open_run
from src.training.fold_data import FoldData, open_data

EVERY_VIEW = ("auto", "smaller", "larger")


@dataclass(frozen=True, kw_only=True)
class FromWeightsConfig(Paths):
    """Whose networks are looked at."""

    run_name: tuple[str, ...] = ("baseline",)
    """Seeds of one recipe."""
    fold: int = 0
    num_batches: int = 40
    """Augmented training batches from which the soup's batch norm counts means and variances anew."""


def averaged(networks: Sequence[nn.Module], into: nn.Module) -> nn.Module:
    """Fill a network of the same kind with the mean of the others' weights and statistics; counters are the first's."""
    states = [network.state_dict() for network in networks]
    mean = {
        key: torch.stack([state[key] for state in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    into.load_state_dict(mean)
    return into.eval()


@torch.no_grad()
def counted_anew(network: nn.Module, loader: Loader, num_batches: int) -> nn.Module:
    """Replace the means and variances of batch norm by those of training images, augmented as in training.

    Plain images will not do: where strings are joined in training, they have fewer digits than the network is used to.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean over all batches
        norm.train()
    for batch in islice(loader.epoch(0), num_batches):
        network(batch["image"])
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return network.eval()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Networks of one fold, its loaders, and the labels of the held-out images in the loader's order."""

    names: tuple[str, ...]
    networks: tuple[nn.Module, ...]
    answers: tuple[np.ndarray, ...]  # of each network, out of fold with its usual views
    data: FoldData
    target: np.ndarray
    groups: np.ndarray
    predictor: Predictor  # with the usual views

    def score(self, predicted: np.ndarray) -> float:
        return score_of(predicted, self.target, self.predictor.competition)

    def score_of_network(self, network: nn.Module) -> float:
        return self.score(self.predictor.predict(network, self.data.val).mean)


def open_trained(config: FromWeightsConfig) -> Trained:
    """Open the runs. Raises InputError if they are not of one snapshot."""
    compute = choose_compute("cpu", "fp32")
    runs = [open_run(config, name) for name in config.run_name]
    first = runs[0]
    if len({run.prepared.id for run in runs}) > 1:
        raise InputError("--run-name: the runs are of different snapshots; their held-out images are not the same")
    folds = [run.trained((config.fold,))[0] for run in runs]
    paths = {item.name: getattr(config, item.name) for item in fields(Paths)}
    data = open_data(TrainConfig(**paths, **vars(first.started_record.train)), first, config.fold, compute, folds[0])
    oofs = [out_of_fold(run, (config.fold,)) for run in runs]
    row_of = {path: row for row, path in enumerate(oofs[0].labels["image_path"])}
    order = [row_of[path] for path in data.val_paths]
    return Trained(
        names=config.run_name,
        networks=tuple(run.load_network(fold).eval() for run, fold in zip(runs, folds, strict=True)),
        answers=tuple(oof.probabilities[order] for oof in oofs),
        data=data,
        target=oofs[0].target[order],
        groups=oofs[0].labels["group"].to_numpy()[order],
        predictor=Predictor(
            competition=first.competition, compute=compute, view_names=first.started_record.train.views
        ),
    )


def print_row(name: str, scores: Sequence[float]) -> None:
    each = ", ".join(f"{score:.4f}" for score in scores)
    print(f"| {name} | {each}" + (f"; mean {np.mean(scores):.4f} |" if len(scores) > 1 else " |"), flush=True)


def print_views(of: Trained) -> None:
    """Print the scores with views that were chosen out of fold, and which they are."""
    wide, chosen = replace(of.predictor, view_names=EVERY_VIEW), []
    names = list(wide.views(of.data.val.image_size))
    for network in of.networks:
        each = wide.predict_each(network, of.data.val)
        chosen.append(choose_views(names, each, of.target, wide.competition, of.groups))
    print_row("each alone, views chosen out of fold", [of.score(choice.predicted) for choice in chosen])
    for name, choice in zip(of.names, chosen, strict=True):
        print(f"| chosen by {name} | {', '.join(choice.names)} |")


def main(config: FromWeightsConfig) -> None:
    """Print the table."""
    of = open_trained(config)
    print(f"n = {len(of.target):,}\n| | score |\n|---|---|")
    print_row("each alone, all views", [of.score(answers) for answers in of.answers])
    print_views(of)
    if len(of.networks) == 1:
        return
    print_row("the mean of their answers", [of.score(weighted_mean(of.answers, [1.0] * len(of.answers)))])
    soup = averaged(of.networks, deepcopy(of.networks[0]))
    print_row("one network with the mean of their weights", [of.score_of_network(soup)])
    soup = counted_anew(soup, of.data.train, config.num_batches)
    print_row("the same, its batch norm counted anew", [of.score_of_network(soup)])


if __name__ == "__main__":
    cli.run(main, FromWeightsConfig, __doc__)
