"""Two strings set side by side as one: long ones are rare in most data."""

import numpy as np

from src.data.images import resize


def concat_widths(
    target: np.ndarray, other_target: np.ndarray, chosen: np.ndarray, pad_class: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the width (B,) that each image keeps where another is set at its right, and the joined targets.

    Targets (B, num_heads) int64, padded right with `blank`; chosen (B,) bool. Where an image is not chosen, or both
    strings do not fit into the heads together, it keeps the whole width. Each string gets a share by its length, so
    long strings, rare in most data, become common.
    """
    lengths, other_lengths = ((ids != pad_class).sum(axis=1) for ids in (target, other_target))
    total, places = lengths + other_lengths, np.arange(target.shape[1])
    fits = chosen & (lengths > 0) & (other_lengths > 0) & (total <= target.shape[1])
    kept = np.where(fits, np.rint(width * lengths / np.maximum(total, 1)), width).astype(np.int64)
    from_other = fits[:, None] & (places >= lengths[:, None]) & (places < total[:, None])
    shifted = np.take_along_axis(other_target, np.maximum(places - lengths[:, None], 0), axis=1)
    joined = np.where(from_other, shifted, target)
    return kept, joined


def concat_batch(images: np.ndarray, others: np.ndarray, kept: np.ndarray) -> None:
    """Set `others` at the right of `images`, both (B, H, W, 3) uint8, in place, where `kept` (B,) leaves room."""
    height, width = images.shape[1:3]
    for i in np.flatnonzero(kept < width):
        images[i, :, : kept[i]] = resize(images[i], (height, int(kept[i])))
        images[i, :, kept[i] :] = resize(others[i], (height, int(width - kept[i])))
