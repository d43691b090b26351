"""--unsure-only: further views only for the images that need them, by how sure the plain image's answer is.

Out-of-fold predictions tell which answers further views change: nearly always those with low confidence. The threshold
is the 99th percentile of the confidence of changed answers; above it, the plain image answers alone.
"""

from dataclasses import asdict, dataclass

import numpy as np

from src.competitions.decision import decide
from src.competitions.spec import Competition
from src.core.errors import InputError
from src.inference.ensemble import out_of_fold
from src.inference.quality import check_one_image_each, confidence_of, defined
from src.metrics import score_of
from src.runs.run import Run

CHANGED_BELOW = 0.99  # share of the changed answers that get all views


@dataclass(frozen=True, kw_only=True)
class Unsure:
    """From which confidence on the plain image answers, and what that costs out of fold."""

    confidence_threshold: float
    share: float  # of the held-out images that get further views
    score_all: float  # with all views for all images
    score: float

    def facts(self) -> dict[str, float | None]:
        """Return what the submission's JSON says of it; None for a score that is not defined."""
        return {name: defined(value) for name, value in asdict(self).items()}

    def describe(self, name: str) -> str:
        """Return a line about a run called `name`."""
        return (
            f"{name}: further views for answers less sure than {self.confidence_threshold:.3f}, "
            f"{self.share:.0%} of the held-out images; out of fold {self.score_all:.4f} with all views for all, "
            f"{self.score:.4f} with --unsure-only"
        )


def check_unsure_only(competition: Competition, tta: bool, minutes: float | None) -> None:
    """Raise InputError if --unsure-only does not apply."""
    if set(competition.layout.kinds) != {"class"}:
        raise InputError(f"--unsure-only: {competition.name} does not answer with classes only; leave it out")
    if not tta or minutes is not None:
        raise InputError(
            f"--unsure-only {'--no-tta' if not tta else '--minutes'}: both choose how many views there are; give one"
        )


def unsure_of(run: Run, folds: tuple[int, ...]) -> Unsure:
    """Return what a run's out-of-fold predictions say. Raises InputError if they are missing."""
    plain, full = (out_of_fold(run, folds, tta) for tta in (False, True))
    competition, target = run.competition, full.target
    check_one_image_each("--unsure-only", full.labels)
    answers = decide(plain.probabilities, competition)
    confidence = confidence_of(plain.probabilities, answers, competition)
    changed = (answers != decide(full.probabilities, competition)).any(axis=1)
    threshold = float(np.quantile(confidence[changed], CHANGED_BELOW)) if changed.any() else 0.0
    unsure = confidence < threshold
    mixed = np.where(unsure[:, None], full.probabilities, plain.probabilities)
    return Unsure(
        confidence_threshold=threshold,
        share=float(unsure.mean()),
        score_all=score_of(full.probabilities, target, competition),
        score=score_of(mixed, target, competition),
    )
