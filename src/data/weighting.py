"""What each image and each class counts in the loss, and how often an image is drawn: the answer to rare classes."""

from dataclasses import dataclass

import numpy as np

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.data.keyed import keyed_uniforms

LARGEST_RATIO = 100.0  # between the weights of the rarest and the commonest class


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What the targets of a batch count; 1 on average over the training images."""

    images: np.ndarray | None = None  # (M,) float32, of each training image
    heads: np.ndarray  # (num_targets,) float32, --head-weights
    values: tuple[np.ndarray, ...] = ()  # of each target column: the weight of each value that it can have

    def of(self, positions: np.ndarray, target: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
        """Return (B, num_targets) float32 of the images at these positions, with their targets (B, num_targets).

        `others` (B,) are the positions of the images that are pasted beside them: the less certain label counts.
        """
        weight = np.repeat(self.heads[None], len(positions), axis=0)
        for column, values in enumerate(self.values):
            if len(values):
                weight[:, column] *= values[target[:, column].astype(np.int64)]
        if self.images is None:
            return weight
        images = self.images[positions]
        return weight * (images if others is None else np.minimum(images, self.images[others]))[:, None]


def _per_value(target: np.ndarray, count: int) -> np.ndarray:
    """Return the weight of each value of one target column: inverse to how often it occurs, 1 on average."""
    found = np.bincount(target.astype(np.int64), minlength=count).astype(np.float64)
    weight = 1 / np.maximum(found, found.max(initial=1) / LARGEST_RATIO)
    return np.asarray(weight * len(target) / max((weight * found).sum(), 1e-12), dtype=np.float32)


def loss_weights(
    competition: Competition,
    targets: np.ndarray,
    images: np.ndarray | None,
    head_weights: tuple[float, ...] = (),
    balanced: bool = False,
) -> LossWeights | None:
    """Return what counts more than 1 or less; None if nothing does. targets (M, num_targets), images (M,).

    Raises InputError if no image counts.
    """
    if images is None and not head_weights and not balanced:
        return None
    if images is not None and not images.any():
        raise InputError(f"{competition.name}: all images that this fold trains on have the weight 0; correct them")
    layout = competition.layout
    of_heads = np.array(head_weights or [1.0] * len(competition.heads), dtype=np.float32)
    values: list[np.ndarray] = []
    for head in competition.heads if balanced else ():
        for _ in head.targets:
            count = {"labels": 2, "number": 0}.get(head.kind, head.num_classes)
            values.append(_per_value(targets[:, len(values)], count) if count else np.zeros(0, np.float32))
    return LossWeights(
        images=None if images is None else (images / images.mean()).astype(np.float32),
        heads=np.repeat(of_heads / of_heads.mean(), layout.target_widths).astype(np.float32),
        values=tuple(values),
    )


def sampling_shares(competition: Competition, targets: np.ndarray, power: float) -> np.ndarray:
    """Return the share of each image in what is drawn, (M,): its rarest class's frequency to the power of -`power`.

    power 1 draws all classes equally often (balanced), 0.5 is between that and the data as it is. The classes are
    those of the first head, or of labels the rarest one that an image has.
    """
    head = competition.heads[0]
    if head.kind == "labels":
        columns = targets[:, : len(head.targets)]
        found = columns.sum(axis=0)
        rarest = np.where(columns > 0, found, len(targets)).min(axis=1)
        none = columns.sum(axis=1) == 0
        rarest[none] = none.sum()
    else:
        found = np.bincount(targets[:, 0].astype(np.int64), minlength=head.num_classes)
        rarest = found[targets[:, 0].astype(np.int64)]
    shares = np.maximum(rarest, 1).astype(np.float64) ** -power
    return shares / shares.sum()


def drawn(seed: int, epoch: int, cumulative: np.ndarray) -> np.ndarray:
    """Return (M,) positions drawn with replacement; `cumulative` (M,) are the running sums of the images' shares.

    Draws are spread evenly over the shares (one in each M-th part), so that rare images come as often as they should.
    """
    count = len(cumulative)
    draws = keyed_uniforms(seed, epoch, np.arange(count), 2)
    points = (np.arange(count) + draws[:, 0]) / count * cumulative[-1]
    chosen = np.minimum(np.searchsorted(cumulative, points, side="right"), count - 1)
    return chosen[np.argsort(draws[:, 1], kind="stable")]
