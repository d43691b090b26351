"""Combine runs with weights fitted on their out-of-fold predictions, and say what that gains honestly.

    python -m src.blend --run-name baseline resnet
    python -m src.blend --competition demo --run-name baseline wide --name both      (seconds on a CPU)

Writes submissions/<competition>/<name>.csv, .json and .npz. Each run must have been scored on the same images and be
trained to its end; test predictions that `predict` made are used again.

Source of the selection: Caruana et al., Ensemble Selection from Libraries of Models, 2004.
"""

import cv2
import numpy as np

from src.competitions.spec import Competition
from src.config import BlendConfig, check_name, check_range
from src.core import cli
from src.core.errors import InputError
from src.core.runtime import choose_compute, keep_freed_memory
from src.data.labels import open_competition
from src.data.tta import tta_views
from src.inference.ensemble import OutOfFold, out_of_fold, predict_test, weighted_mean
from src.inference.submission import describe_folds, write_submission
from src.metrics import exact_matches
from src.models.heads import num_classes_per_head
from src.runs.run import open_run


def quality(probabilities: np.ndarray, target: np.ndarray, competition: Competition) -> tuple[float, float]:
    """Return (score, mean log-probability of the true answer): the second decides between equal scores."""
    starts = np.cumsum([0, *num_classes_per_head(competition.heads)[:-1]])
    true = np.take_along_axis(probabilities, target + starts, axis=1)
    log_likelihood = float(np.log(true.astype(np.float64) + 1e-12).sum(axis=1).mean())
    return float(exact_matches(probabilities, target, competition).mean()), log_likelihood


def select(parts: list[np.ndarray], target: np.ndarray, competition: Competition, rounds: int) -> np.ndarray:
    """Return a weight for each run, adding up to 1: greedy selection with replacement from the best single run on.

    The best round counts, and the first round is the best single run: on these images the result is never worse.
    """
    counts = np.zeros(len(parts))
    total = np.zeros_like(parts[0], dtype=np.float64)
    best, best_counts = (-1.0, -np.inf), counts
    for round_number in range(1, rounds + 1):
        options = [quality(((total + part) / round_number).astype(np.float32), target, competition) for part in parts]
        chosen = max(range(len(parts)), key=lambda place: options[place])
        counts[chosen] += 1
        total += parts[chosen]
        if options[chosen] > best:
            best, best_counts = options[chosen], counts.copy()
    return best_counts / best_counts.sum()


def honest_gain(oofs: list[OutOfFold], competition: Competition, config: BlendConfig) -> tuple[float, float]:
    """Return (score of the blend, score of the best single run), both chosen without the images they are scored on."""
    target = oofs[0].target
    parts = [oof.probabilities for oof in oofs]
    # Whole groups are held out together, so that no copy of a image helps to choose.
    groups, number = np.unique(oofs[0].labels["group"], return_inverse=True)
    if len(groups) < config.outer_folds:
        raise InputError(f"--outer-folds {config.outer_folds}: there are only {len(groups)} groups of images")
    outer = np.random.default_rng(config.seed).permutation(len(groups))[number] % config.outer_folds
    blended = single = 0
    for fold in range(config.outer_folds):
        fit, val = outer != fold, outer == fold
        weights = select([part[fit] for part in parts], target[fit], competition, config.rounds)
        mean = weighted_mean([part[val] for part in parts], list(weights))
        blended += int(exact_matches(mean, target[val], competition).sum())
        best = max(range(len(parts)), key=lambda place: quality(parts[place][fit], target[fit], competition))
        single += int(oofs[best].right[val].sum())
    return blended / len(target), single / len(target)


def main(config: BlendConfig) -> None:
    """Blend runs. Raises InputError if there are fewer than two, or they were scored on other images."""
    keep_freed_memory()
    cv2.setNumThreads(0)
    competition, prepared = open_competition(config.competition, config.runs_dir)
    check_name("name", config.name)
    check_range("rounds", config.rounds, 1)
    check_range("outer-folds", config.outer_folds, 2)
    if len(set(config.run_name)) < 2 or len(set(config.run_name)) != len(config.run_name):
        raise InputError(f"--run-name {' '.join(config.run_name)}: name two or more different runs")
    run_dirs = [config.runs_dir / competition.name / run for run in config.run_name]
    oofs = [out_of_fold(run_dir, prepared, competition, None, True) for run_dir in run_dirs]
    for run, oof in zip(config.run_name, oofs, strict=True):
        if oof.labels["image_path"].tolist() != oofs[0].labels["image_path"].tolist():
            raise InputError(
                f"--run-name: {run} and {config.run_name[0]} were scored on different images; train the same folds"
            )
        print(f"{run}: {oof.right.mean():.4f} out of fold")
    parts = [oof.probabilities for oof in oofs]
    weights = select(parts, oofs[0].target, competition, config.rounds)
    fitted = quality(weighted_mean(parts, list(weights)), oofs[0].target, competition)[0]
    blended, single = honest_gain(oofs, competition, config)
    for run, weight in zip(config.run_name, weights, strict=True):
        print(f"weight {weight:.3f}  {run}")
    print(f"on the images the weights were fitted on: {fitted:.4f}")
    print(f"honestly, by {config.outer_folds}-fold outer cross-validation: {blended:.4f}, best single run {single:.4f}")
    compute = choose_compute("auto", "auto")
    means, used, facts = [], [], []
    for run_dir, weight in zip(run_dirs, weights, strict=True):
        if weight > 0:
            folds = open_run(run_dir, competition, None)
            kept = [predict_test(fold, prepared, competition, compute, tta=True) for fold in folds]
            means.append(weighted_mean(kept, [1.0] * len(kept)))
            used.append(float(weight))
            facts.append({"run": run_dir.name, "weight": float(weight), "folds": describe_folds(folds)})
    note = {
        "views": list(tta_views(competition.hflip_ok, competition.image_size)),
        "runs": facts,
        "blend": {"fitted_score": fitted, "honest_score": blended, "honest_best_single": single},
    }
    folder = config.submissions_dir / competition.name
    path = write_submission(folder, config.name, weighted_mean(means, used), competition, prepared, note)
    print(f"validated against the sample submission: {path}")


if __name__ == "__main__":
    cli.run(main, BlendConfig, __doc__)
