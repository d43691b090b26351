"""What can be gained after training, out of fold: means, a stack, fewer views, calibration, other shares of classes.

    python -m benchmarks.after_training --competition svhn --run-name recogniser lite0 --external rapidocr.npz
    python -m benchmarks.after_training --competition food11 --run-name lite2

Everything that is fitted is scored by cross-validation over groups, with several divisions. For the correction of
shares (--priors test of predict) the held-out images are also drawn anew with other shares of the first head's classes,
as if the test set had them; labels are only used to draw and to score. Prints a table; nothing is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.competitions.spec import Competition
from src.config import BlendConfig, Paths
from src.core import cli
from src.inference.blending import fit
from src.inference.calibration import calibrated_honestly, estimated_shares, with_shares
from src.inference.ensemble import OutOfFold, out_of_fold, weighted_mean
from src.inference.external import external_out_of_fold, read_external
from src.inference.quality import likelihood_losses
from src.inference.stacking import check_stackable
from src.inference.unsure import unsure_of
from src.metrics import score_of
from src.runs.run import open_run


@dataclass(frozen=True, kw_only=True)
class AfterConfig(Paths):
    """Whose predictions are looked at."""

    run_name: tuple[str, ...] = ("baseline",)
    external: tuple[Path, ...] = ()
    divisions: int = 3
    """Divisions into outer folds, for what is fitted."""
    shifts: int = 10
    """Draws with other shares of classes."""


def row(name: str, value: str) -> None:
    print(f"| {name} | {value} |", flush=True)


def several(values: list[float]) -> str:
    """Return the mean, and the range if there is one."""
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(set(values)) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def geometric(parts: list[np.ndarray], competition: Competition) -> np.ndarray:
    """Return the geometric mean of each head's probabilities, (N, num_outputs)."""
    logs = np.mean([np.log(np.maximum(part, 1e-6)) for part in parts], axis=0)
    heads = [np.exp(part) for part in competition.layout.split(logs)]
    return np.concatenate([head / head.sum(axis=1, keepdims=True) for head in heads], axis=1)


def together(oofs: list[OutOfFold], config: AfterConfig) -> None:
    """Print what several runs have together."""
    parts, first = [oof.probabilities for oof in oofs], oofs[0]

    def score(predicted: np.ndarray) -> float:
        return score_of(predicted, first.target, first.competition)

    row("equal weights", f"{score(weighted_mean(parts, [1.0] * len(parts))):.4f}")
    row("equal weights, geometric mean", f"{score(geometric(parts, first.competition)):.4f}")
    check_stackable(first.competition)
    blends = [fit(oofs, BlendConfig(stack=True, seed=seed)) for seed in range(config.divisions)]
    row("fitted weights, honestly", several([blend.honest_mean for blend in blends]))
    row("stack, honestly", several([blend.honest_score for blend in blends]))
    right = np.any([oof.right for oof in oofs], axis=0)
    row("at least one of them right", f"{right.mean():.4f}")


def drawn_anew(oof: OutOfFold, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (M,) whose first head has other shares of classes, and the shares (K,)."""
    rng, classes = np.random.default_rng(seed), oof.competition.heads[0].num_classes
    shares = rng.dirichlet(np.full(classes, 3.0))
    own = oof.target[:, 0].astype(np.int64)
    there = np.bincount(own, minlength=classes) > 0
    shares = shares * there / (shares * there).sum()
    count = len(own) // 4
    chosen = [rng.choice(np.flatnonzero(own == one), round(count * shares[one])) for one in np.flatnonzero(there)]
    return np.concatenate(chosen), shares


def shifted(oof: OutOfFold, honest: np.ndarray, config: AfterConfig) -> None:
    """Print what the correction of shares gains if the test set has the same ones, and if it has others."""
    competition, width = oof.competition, oof.competition.heads[0].num_outputs
    known = np.bincount(oof.target[:, 0].astype(np.int64), minlength=width) / len(oof.target)

    def corrected(predicted: np.ndarray) -> np.ndarray:
        first = predicted[:, :width]
        return np.concatenate([with_shares(first, known, estimated_shares(first, known)), predicted[:, width:]], axis=1)

    row("shares of the first head corrected, where nothing has shifted",
        f"{score_of(corrected(honest), oof.target, competition):.4f}")  # fmt: skip
    gains: dict[str, list[float]] = {"before": [], "after": []}
    for seed in range(config.shifts):
        rows, _ = drawn_anew(oof, seed)
        makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {"before": lambda one: one, "after": corrected}
        for name, make in makers.items():
            gains[name].append(score_of(make(honest[rows]), oof.target[rows], competition))
    row(f"{config.shifts} draws with other shares, uncorrected", several(gains["before"]))
    row(f"{config.shifts} draws with other shares, corrected", several(gains["after"]))


def main(config: AfterConfig) -> None:
    """Print the tables. Raises InputError for runs that are incomplete or were scored on different images."""
    runs = {name: open_run(config, name) for name in config.run_name}
    oofs = {name: out_of_fold(run) for name, run in runs.items()}
    first = next(iter(oofs.values()))
    for path in config.external:
        oofs[path.stem] = external_out_of_fold(read_external(path, first.competition), first)
    print(f"{first.competition.name}, n = {len(first.target):,}\n\n| | score |\n|---|---|")
    groups = first.labels["group"].to_numpy()
    for name, oof in oofs.items():
        row(f"**{name}**", f"{oof.score:.4f}")
        if name in runs:
            unsure = unsure_of(runs[name], tuple(runs[name].prepared.fold_numbers("all")))
            row("further views only where unsure", f"{unsure.score:.4f}; they are given to {unsure.share:.0%}")
        honest = calibrated_honestly(oof.probabilities, oof.target, oof.competition, groups)
        losses = [likelihood_losses(one, oof.target, oof.competition).mean() for one in (oof.probabilities, honest)]
        score = score_of(honest, oof.target, oof.competition)
        row("calibrated, honestly", f"{score:.4f}; log loss {losses[0]:.4f} to {losses[1]:.4f}")
        shifted(oof, honest, config)
    if len(oofs) > 1:
        together(list(oofs.values()), config)


if __name__ == "__main__":
    cli.run(main, AfterConfig, __doc__)
