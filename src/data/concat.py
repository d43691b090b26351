"""Concatenate two images of strings side by side (`--augment.concat`), since long strings are rare in most data."""

import numpy as np

from src.data.images import resize


def concat_widths(
    target: np.ndarray, other_target: np.ndarray, chosen: np.ndarray, pad_class: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the width (B,) that each image keeps when another is placed to its right, and the joined targets.

    Targets (B, num_heads) int64, padded on the right with `pad_class`; chosen (B,) bool. An image keeps the full width
    if it is not chosen or if the two strings together do not fit into the heads. Otherwise the width is shared in
    proportion to the strings' lengths.
    """
    lengths, other_lengths = ((ids != pad_class).sum(axis=1) for ids in (target, other_target))
    total, positions = lengths + other_lengths, np.arange(target.shape[1])
    fits = chosen & (lengths > 0) & (other_lengths > 0) & (total <= target.shape[1])
    kept = np.where(fits, np.rint(width * lengths / np.maximum(total, 1)), width).astype(np.int64)
    from_other = fits[:, None] & (positions >= lengths[:, None]) & (positions < total[:, None])
    shifted = np.take_along_axis(other_target, np.maximum(positions - lengths[:, None], 0), axis=1)
    joined = np.where(from_other, shifted, target)
    return kept, joined


def concat_batch(images: np.ndarray, others: np.ndarray, kept: np.ndarray) -> None:
    """Paste `others` to the right of `images`, both (B, H, W, C), in place, if `kept` (B,) leaves room."""
    height, width = images.shape[1:3]
    for i in np.flatnonzero(kept < width):
        images[i, :, : kept[i]] = resize(images[i], (height, int(kept[i])))
        images[i, :, kept[i] :] = resize(others[i], (height, int(width - kept[i])))
