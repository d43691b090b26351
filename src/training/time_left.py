"""How long a training command still takes, from what its epochs have taken."""

from dataclasses import dataclass
from math import prod
from statistics import median

SCORING_SHARE = 1 / 3  # of a training step that a forward pass takes, until scoring has been timed
RECENT = 4  # epochs whose median pace is used: one in which the machine was paused or busy does not count


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """The work of a fold and of those after it; each is taken to be as long as this one."""

    epochs: int
    folds_after: int = 0
    num_views: int = 1  # of each held-out image at a fold's end
    val_share: float = 0.0  # held-out images per training image
    sizes: tuple[tuple[int, int], ...] = ()  # of the images of each epoch, if they grow

    def _work(self, epoch: int) -> float:
        """Return an epoch's work, 1 for one at full size."""
        return prod(self.sizes[epoch]) / prod(self.sizes[-1]) if self.sizes else 1.0

    def _pace(self, history: list[dict[str, float]], steps: float, epoch: int) -> tuple[float, float]:
        """Return the seconds of the steps of a full-sized epoch, and of scoring it; `steps` those of this epoch, or 0
        before any was made."""
        recent = history[-RECENT:]
        paces = [row["train_seconds"] / self._work(int(row["epoch"]) - 1) for row in recent]
        if steps:
            paces.append(steps / self._work(epoch))
        whole = median(paces or [0.0])
        if not recent:
            return whole, SCORING_SHARE * self.val_share * whole
        return whole, max(median(row["seconds"] - row["train_seconds"] for row in recent), 0.0)

    def after_steps(self, history: list[dict[str, float]], epoch: int, steps: float) -> float:
        """Return the seconds after the last step of an epoch (from 0), whose steps take `steps` seconds."""
        return self.after_epoch(history, epoch, steps) + self._pace(history, steps, epoch)[1]

    def after_epoch(self, history: list[dict[str, float]], epoch: int, steps: float = 0.0) -> float:
        """Return the seconds after an epoch (from 0) and its scoring; `history` has a row for each that is done."""
        whole, scoring = self._pace(history, steps, epoch)

        def of_epochs(first: int) -> float:
            return (
                sum(self._work(one) * whole + scoring for one in range(first, self.epochs)) + self.num_views * scoring
            )

        return of_epochs(epoch + 1) + self.folds_after * of_epochs(0)
