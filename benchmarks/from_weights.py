"""What is gained without more training: views chosen out of fold, the mean of several networks' answers or weights.

    python -m benchmarks.from_weights --run-name one-base-s0 one-base-s1 one-base-s2

The runs are seeds of one recipe that began with the same pretrained weights, trained on the same folds. A soup is one
network with the mean of their weights (Wortsman et al., Model soups, 2022); the means and variances of its batch norm
are averaged too, or counted anew on training images. Views are chosen on four fifths of the held-out images for the
others, as evaluate does with --views auto. Prints a table; the score of each row is over the same held-out images.
"""

from collections.abc import Sequence
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
from src.training.fold_data import open_data

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


def main(config: FromWeightsConfig) -> None:
    """Print the table."""
    torch.manual_seed(0)
    compute = choose_compute("cpu", "fp32")
    runs = [open_run(config, name) for name in config.run_name]
    first, competition = runs[0], runs[0].competition
    if len({run.prepared.id for run in runs}) > 1:
        raise InputError("--run-name: the runs are of different snapshots; their held-out images are not the same")
    folds = [run.trained((config.fold,))[0] for run in runs]
    paths = {item.name: getattr(config, item.name) for item in fields(Paths)}
    data = open_data(TrainConfig(**paths, **vars(first.begun.train)), first, config.fold, compute, folds[0])
    oofs = [out_of_fold(run, (config.fold,)) for run in runs]
    order = [{path: row for row, path in enumerate(data.val_paths)}[path] for path in oofs[0].labels["image_path"]]
    target, groups = oofs[0].target, oofs[0].labels["group"].to_numpy()
    print(f"n = {len(order):,}\n| | score |\n|---|---|")

    def row(name: str, scores: Sequence[float]) -> None:
        each = ", ".join(f"{score:.4f}" for score in scores)
        print(f"| {name} | {each}" + (f"; mean {np.mean(scores):.4f} |" if len(scores) > 1 else " |"), flush=True)

    def score(predicted: np.ndarray) -> float:
        return score_of(predicted, target, competition)

    usual = Predictor(competition=competition, compute=compute, wanted=first.begun.train.views)
    networks = [run.load_network(fold).eval() for run, fold in zip(runs, folds, strict=True)]
    row("each alone, all views", [score(oof.probabilities) for oof in oofs])
    wide = replace(usual, wanted=EVERY_VIEW)
    names, chosen = list(wide.views(data.val.image_size)), []
    for network in networks:
        each = wide.predict_each(network, data.val)[:, order]
        chosen.append(choose_views(names, each, target, competition, groups))
    row("each alone, views chosen out of fold", [score(choice.predicted) for choice in chosen])
    for run, choice in zip(runs, chosen, strict=True):
        print(f"| chosen by {run.name} | {', '.join(choice.names)} |")
    if len(runs) > 1:
        row("the mean of their answers", [score(weighted_mean([o.probabilities for o in oofs], [1.0] * len(oofs)))])
        soup = averaged(networks, first.load_network(folds[0]))
        row("one network with the mean of their weights", [score(usual.predict(soup, data.val).mean[order])])
        soup = counted_anew(soup, data.train, config.num_batches)
        row("the same, its batch norm counted anew", [score(usual.predict(soup, data.val).mean[order])])


if __name__ == "__main__":
    cli.run(main, FromWeightsConfig, __doc__)
