"""Learning rate schedules as pure functions of progress, so there is no state to save."""

import math


def lr_factor(schedule: str, progress: float, warmup: float) -> float:
    """Return the learning rate at `progress` in [0, 1] of training, as a fraction of its peak.

    onecycle: cosine up over the warm-up, cosine down to 0 (Smith, Super-Convergence, 2018); cosine: linear warm-up,
    then cosine to 0; step: linear warm-up, then a tenth after 60% and a hundredth after 85%; constant: linear warm-up.
    """
    if progress < warmup:
        rise = progress / warmup
        return 0.04 + 0.96 * ((1 - math.cos(math.pi * rise)) / 2 if schedule == "onecycle" else rise)
    if schedule == "step":
        return 1.0 if progress < 0.6 else 0.1 if progress < 0.85 else 0.01
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (progress - warmup) / max(1e-9, 1 - warmup))) / 2
