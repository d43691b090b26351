"""What can be gained after training, out of fold: means, a stack, fewer views, calibration, other shares of classes.

    python -m benchmarks.after_training --competition svhn --run-name recogniser lite0 --external rapidocr.npz
    python -m benchmarks.after_training --competition food11 --run-name lite2

Everything that is fitted is scored by cross-validation over groups, with several divisions. For the correction of
shares (--priors test of predict) the held-out images are also drawn anew with other shares of the first head's classes,
or of lengths of strings, as if the test set had them; labels are only used to draw and to score. Prints a table;
nothing is trained.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from src.competitions.spec import Competition
from src.config import BlendConfig, Paths
from src.core import cli
from src.inference.blending import fit
from src.inference.calibration import calibrated_out_of_fold, estimated_shares, with_shares
from src.inference.ensemble import OutOfFold, out_of_fold, weighted_mean
from src.inference.external import external_out_of_fold, read_external
from src.inference.quality import likelihood_losses, parts_of_groups
from src.inference.stacking import check_stackable
from src.inference.unsure import unsure_of
from src.metrics import score_of
from src.runs.run import open_run

OUTER_FOLDS = 5


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
    row("fitted weights, cross-validated", several([blend.cross_validated_mean for blend in blends]))
    row(
        "weights by log loss, cross-validated",
        several([score(by_log_loss(oofs, seed)) for seed in range(config.divisions)]),
    )
    groups = first.labels["group"].to_numpy()
    each = [calibrated_out_of_fold(part, first.target, first.competition, groups) for part in parts]
    mean = weighted_mean(parts, [1.0] * len(parts))
    for name, made in (
        ("each calibrated, then equal weights", weighted_mean(each, [1.0] * len(each))),
        ("equal weights, then calibrated", calibrated_out_of_fold(mean, first.target, first.competition, groups)),
    ):
        loss = likelihood_losses(made, first.target, first.competition).mean()
        row(name, f"{score(made):.4f}; log loss {loss:.4f}")
    calibrated = [replace(oof, probabilities=part) for oof, part in zip(oofs, each, strict=True)]
    fits = [fit(calibrated, BlendConfig(seed=seed)).cross_validated_mean for seed in range(config.divisions)]
    row("each calibrated, then fitted weights, cross-validated", several(fits))
    row("stack, cross-validated", several([blend.cross_validated_score for blend in blends]))
    right = np.any([oof.right for oof in oofs], axis=0)
    row("at least one of them right", f"{right.mean():.4f}")


def by_log_loss(oofs: list[OutOfFold], seed: int) -> np.ndarray:
    """Return the mean (N, num_outputs) by the weights of the least log loss, each image's fitted without its group."""
    target, competition, parts = oofs[0].target, oofs[0].competition, np.stack([oof.probabilities for oof in oofs])
    outer = parts_of_groups(oofs[0].labels["group"].to_numpy(), OUTER_FOLDS, seed)
    made = np.zeros_like(parts[0])
    for fold in range(OUTER_FOLDS):

        def loss(free: np.ndarray, known: np.ndarray = outer != fold) -> float:
            mean = np.tensordot(softmax(free), parts[:, known], axes=1)
            return float(likelihood_losses(mean, target[known], competition).mean())

        weights = softmax(minimize(loss, np.zeros(len(parts)), method="Nelder-Mead").x)
        made[outer == fold] = np.tensordot(weights, parts[:, outer == fold], axes=1)
    return made


def drawn_anew(kinds: np.ndarray, seed: int) -> np.ndarray:
    """Return rows (M,) among which the kinds, (N,) whole numbers, have other shares; a quarter as many rows."""
    rng, found = np.random.default_rng(seed), np.unique(kinds)
    shares = rng.dirichlet(np.full(len(found), 3.0))
    count = len(kinds) // 4
    chosen = [
        rng.choice(np.flatnonzero(kinds == one), round(count * share)) for one, share in zip(found, shares, strict=True)
    ]
    return np.concatenate(chosen)


def corrected(oof: OutOfFold, predicted: np.ndarray, heads: int) -> np.ndarray:
    """Return predictions (M, num_outputs) corrected for the shares of classes that they have in the first heads."""
    layout, parts = oof.competition.layout, []
    each = zip(layout.split(predicted), layout.split_targets(oof.target), strict=True)
    for number, (part, target) in enumerate(each):
        known = np.bincount(target[:, 0].astype(np.int64), minlength=part.shape[1]) / len(target)
        parts.append(with_shares(part, known, estimated_shares(part, known)) if number < heads else part)
    return np.concatenate(parts, axis=1)


def shifted(oof: OutOfFold, calibrated_oof: np.ndarray, config: AfterConfig) -> None:
    """Print what the correction of shares gains if the test set has the same ones, and if it has others."""
    competition = oof.competition
    kinds = {"classes of the first head": (oof.target[:, 0].astype(np.int64), 1)}
    if competition.pad_class is not None:
        lengths = (oof.target != competition.pad_class).sum(axis=1)
        kinds["lengths"] = (np.minimum(lengths, np.quantile(lengths, 0.99).astype(int)), len(competition.heads))
    for name, (values, heads) in kinds.items():
        same = score_of(corrected(oof, calibrated_oof, heads), oof.target, competition)
        row(f"shares of {name} corrected, where nothing has shifted", f"{same:.4f}")
        before, after = [], []
        for seed in range(config.shifts):
            rows = drawn_anew(values, seed)
            before.append(score_of(calibrated_oof[rows], oof.target[rows], competition))
            after.append(score_of(corrected(oof, calibrated_oof[rows], heads), oof.target[rows], competition))
        row(f"{config.shifts} draws with other shares of {name}, uncorrected", several(before))
        row(f"{config.shifts} draws with other shares of {name}, corrected", several(after))


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
        calibrated_oof = calibrated_out_of_fold(oof.probabilities, oof.target, oof.competition, groups)
        losses = [
            likelihood_losses(one, oof.target, oof.competition).mean() for one in (oof.probabilities, calibrated_oof)
        ]
        score = score_of(calibrated_oof, oof.target, oof.competition)
        row("calibrated, cross-validated", f"{score:.4f}; log loss {losses[0]:.4f} to {losses[1]:.4f}")
        shifted(oof, calibrated_oof, config)
    if len(oofs) > 1:
        together(list(oofs.values()), config)


if __name__ == "__main__":
    cli.run(main, AfterConfig, __doc__)
