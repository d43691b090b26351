"""--calibrate and --priors: what is done to the mean of all predictions, and what it does out of fold."""

from typing import Any

import numpy as np

from src.config import Adjusting
from src.core.errors import InputError
from src.data.prepared import Prepared
from src.inference.calibration import calibrated_out_of_fold, estimated_shares, fit_calibration, with_shares
from src.inference.ensemble import OutOfFold
from src.inference.quality import check_one_image_each, defined, likelihood_losses
from src.metrics import score_of

NUM_DRAWS = 20  # bootstrap samples of the held-out images
MAX_VALUES = 1_000_000  # probabilities in such a sample


def check_adjusting(config: Adjusting, prepared: Prepared) -> None:
    """Raise InputError for flags that do nothing, or nothing right, for this competition."""
    flag = "--priors test" if config.priors == "test" else "--calibrate"
    if not config.is_adjusting:
        return
    competition = prepared.competition
    check_one_image_each(flag, prepared.labels)
    if "class" not in competition.layout.kinds:
        raise InputError(f"{flag}: {competition.name} has no head of kind class; leave it out")
    if competition.none_class:
        raise InputError(f"{flag}: {competition.name} fits a cut for {competition.none_class}; leave it out")


def adjusted(
    config: Adjusting, predicted: np.ndarray, out_of_fold: np.ndarray, oof: OutOfFold
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the test predictions (N, num_outputs), adjusted, and what the submission's JSON says of it.

    out_of_fold (M, num_outputs) are the same runs' predictions for the images of `oof`. Prints what it does.
    """
    competition, groups = oof.competition, oof.labels["group"].to_numpy()
    calibrated_oof = calibrated_out_of_fold(out_of_fold, oof.target, competition, groups)
    calibration = fit_calibration(out_of_fold, oof.target, competition)
    calibrated = calibration(predicted)
    losses = [float(likelihood_losses(one, oof.target, competition).mean()) for one in (out_of_fold, calibrated_oof)]
    scores = [score_of(one, oof.target, competition) for one in (out_of_fold, calibrated_oof)]
    print(
        f"calibrated: log loss of the whole answer {losses[0]:.4f} before, {losses[1]:.4f} after; score "
        f"{scores[0]:.4f} before, {scores[1]:.4f} after (out of fold, by cross-validation)"
    )
    facts: dict[str, Any] = {
        "log_loss": [defined(loss) for loss in losses],
        "scores": [defined(score) for score in scores],
        "slopes": [head.slope if head else None for head in calibration.heads],
    }
    if config.priors == "test":
        calibrated, facts["priors"] = _corrected(calibrated, calibrated_oof, oof)
    return calibrated, facts


def _corrected(
    calibrated: np.ndarray, calibrated_oof: np.ndarray, oof: OutOfFold
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return test predictions corrected for the test set's class shares, head by head, unless chance explains them."""
    layout, told, parts = oof.competition.layout, [], []
    targets = layout.split_targets(oof.target)
    each = zip(oof.competition.heads, layout.split(calibrated), layout.split(calibrated_oof), targets, strict=True)
    for head, new, known, target in each:
        if head.kind != "class":
            parts.append(new)
            continue
        shares = np.bincount(target[:, 0].astype(np.int64), minlength=head.num_classes) / len(target)
        found = estimated_shares(new, shares)
        distance, chance = _distance(found, shares), _by_chance(known, shares, len(new))
        is_shifted = distance > chance
        parts.append(with_shares(new, shares, found) if is_shifted else new)
        print(
            f"{head.name}: by EM, class shares of the test set differ from the labelled images' by {distance:.1%}; "
            f"chance explains {chance:.1%}: {'corrected' if is_shifted else 'not corrected'}"
        )
        told.append({"head": head.name, "distance": distance, "chance": chance, "corrected": is_shifted}
                    | {"shares": shares.tolist(), "estimated": found.tolist()})  # fmt: skip
    return np.concatenate(parts, axis=1), told


def _distance(found: np.ndarray, shares: np.ndarray) -> float:
    return float(np.abs(found - shares).sum() / 2)


def _by_chance(known: np.ndarray, shares: np.ndarray, count: int) -> float:
    """Return the 95th percentile of the distance over bootstrap samples of as many held-out images."""
    rng, size = np.random.default_rng(0), max(1, min(count, MAX_VALUES // known.shape[1]))
    draws = [known[rng.integers(0, len(known), size)] for _ in range(NUM_DRAWS)]
    return float(np.quantile([_distance(estimated_shares(draw, shares), shares) for draw in draws], 0.95))
