"""Reads a cache that is larger than the memory: a block of rows at a time, each once in an epoch."""

from threading import Lock

import numpy as np

from src.data.pixels import Images, Pixels

WINDOW = 32  # blocks that an epoch mixes, and keeps, at a time
MAX_KEPT = 2 * WINDOW  # blocks in memory, whatever the order of the rows


class Blocks:
    """Reads each block of a cache once in an epoch and keeps it until its last row has been taken.

    Of rows in an order that needs more than MAX_KEPT blocks at a time, blocks are dropped and read again.
    """

    def __init__(self, images: Images, rows: np.ndarray, height: int) -> None:
        """Serve each of `rows` once, in about this order; a block has `height` rows."""
        self.images, self.height = images, height
        blocks = rows // height
        self.left = np.bincount(blocks)
        self.kept: dict[int, np.ndarray] = {}
        self.lock = Lock()
        order = blocks[np.sort(np.unique(blocks, return_index=True)[1])]
        self.reader = images.reader(order.tolist()) if isinstance(images, Pixels) else self._copy

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return (B, H, W, C) copies; threads may ask at the same time."""
        out = np.empty((len(rows), *self.images.shape[1:]), self.images.dtype)
        blocks = rows // self.height
        with self.lock:
            for block in np.unique(blocks):
                if block not in self.kept:
                    if len(self.kept) == MAX_KEPT:
                        del self.kept[next(iter(self.kept))]
                    self.kept[block] = self._read(int(block))
                here = blocks == block
                out[here] = self.kept[block][rows[here] - block * self.height]
                self.left[block] -= here.sum()
                if not self.left[block]:
                    del self.kept[block]
        return out

    def _read(self, block: int) -> np.ndarray:
        return self.reader(block)

    def _copy(self, block: int) -> np.ndarray:
        return np.array(self.images[block * self.height : (block + 1) * self.height])
