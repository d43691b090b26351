"""The pixels of an image cache: a memory map whose blocks are checked when they are first read.

Hashing 150 GB before the first step would take minutes; a block of 4 MiB takes 0.3 ms when its first image is needed.
"""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Thread
from tokenize import TokenError
from typing import Any

import numpy as np
from xxhash import xxh3_64_hexdigest

from src.core.errors import InputError

BLOCK = 4 << 20  # bytes hashed together, and read together if the cache is larger than the memory
BYTES = np.dtype(np.uint8)


def rows_per_block(image_size: Sequence[int], pixel: int = 3) -> int:
    """Return how many images a block holds, of `pixel` bytes a pixel."""
    return max(1, BLOCK // (image_size[0] * image_size[1] * pixel))


def height_of(images: "Images") -> int:
    """Return how many images a block of (N, H, W, C) holds."""
    return rows_per_block(images.shape[1:3], images.shape[3] * images.dtype.itemsize)


def hash_block(block: np.ndarray) -> str:
    """Return the hash of some images, (N, H, W, C)."""
    return xxh3_64_hexdigest(np.ascontiguousarray(block).data)


def hash_blocks(images: np.ndarray) -> list[str]:
    """Return the hash of each block of (N, H, W, C)."""
    height = height_of(images)
    return [hash_block(images[start : start + height]) for start in range(0, len(images), height)]


class Pixels:
    """(N, H, W, C) uint8 or uint16 of a cache file, indexed like an array; images are returned only of a sound block.

    Raises InputError, naming the command `repair`, when a block is read that differs from what was written.
    """

    def __init__(
        self,
        file: Path,
        shape: tuple[int, int, int, int],
        blocks: Sequence[str],
        repair: str,
        dtype: np.dtype = BYTES,
    ) -> None:
        self.file, self.blocks, self.repair, self.dtype = file, blocks, repair, dtype
        self.images: np.ndarray = np.empty(shape, dtype)
        if shape[0]:
            try:
                self.images = np.load(file, mmap_mode="r")
            except (ValueError, EOFError, SyntaxError, TokenError) as error:  # what numpy's header parser raises
                raise self.damage(str(error)) from error
            if self.images.shape != shape or self.images.dtype != dtype:
                raise self.damage(f"it holds {self.images.shape} of {self.images.dtype}, not {shape} of {dtype}")
        self.height = height_of(self)
        self.checked = np.zeros(len(blocks), bool)
        self.all_checked = not blocks

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return images, for any index of rows that numpy takes; rows picked one by one are copies."""
        if not self.all_checked:
            rows = index
            if isinstance(index, int):  # quicker than by an array of all rows
                rows = range(len(self))[index]
            elif not isinstance(index, np.ndarray):
                rows = np.arange(len(self))[index]
            for block in np.unique(np.atleast_1d(rows) // self.height):
                if not self.checked[block]:
                    self.check(int(block), self.images[block * self.height : (block + 1) * self.height])
        picked: np.ndarray = self.images[index]
        return picked

    def check(self, block: int, images: np.ndarray) -> None:
        """Raise InputError if these images of a block differ from what was written. Threads may check at once."""
        if hash_block(images) != self.blocks[block]:
            first = block * self.height
            raise self.damage(f"images {first:,} to {first + len(images) - 1:,} differ from what was written")
        self.checked[block] = True
        self.all_checked = bool(self.checked.all())

    def check_all(self) -> None:
        """Check every block that was not read yet."""
        for block in np.flatnonzero(~self.checked):
            self.check(int(block), self.images[block * self.height : (block + 1) * self.height])

    def check_in_background(self) -> None:
        """Check the blocks in a thread of their own, ahead of the first epoch. Damage is told when it is read."""

        def run() -> None:
            try:
                self.check_all()
            except (InputError, OSError):
                return

        Thread(target=run, daemon=True).start()

    def damage(self, why: str) -> InputError:
        """Return the error that says how to make the file again."""
        return InputError(f"{self.file}: is damaged ({why}); run {self.repair} again")

    @cached_property
    def _descriptor(self) -> int:
        """The file, to read blocks from: through the map, the system would read megabytes around each row."""
        file = os.open(self.file, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # read no more than is asked for
        return file

    def __del__(self) -> None:
        if "_descriptor" in vars(self):
            os.close(self._descriptor)

    def read_block(self, block: int) -> np.ndarray:
        """Return the images of a block, read from the file and checked each time."""
        images = self.images[block * self.height : (block + 1) * self.height]
        offset = self.images.offset + block * self.height * self.images[:1].nbytes  # type: ignore[attr-defined]
        data = os.pread(self._descriptor, images.nbytes, offset)
        if len(data) != images.nbytes:
            raise self.damage("it was cut short")
        read = np.frombuffer(data, self.dtype).reshape(images.shape)
        self.check(block, read)
        return read

    def reader(self, blocks: Sequence[int]) -> Callable[[int], np.ndarray]:
        """Return a function that returns a block's images; it will be called for these blocks in about this order."""
        return self.read_block


class JoinedImages:
    """(N + M, H, W, C): the images of one cache, then those of another one, indexed by rows like an array.

    For a training that also sees test images.
    """

    def __init__(self, first: "Images", second: "Images") -> None:
        """Both have the same image size, channels and type."""
        assert first.shape[1:] == second.shape[1:]
        assert first.dtype == second.dtype
        self.first, self.second = first, second
        self.dtype: np.dtype = first.dtype
        self.shape: tuple[int, ...] = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return self.first.nbytes + self.second.nbytes

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return copies of images, for any index of rows that numpy takes."""
        rows: np.ndarray = index if isinstance(index, np.ndarray) else np.arange(len(self))[index]
        if rows.ndim == 0:
            return self[rows[None]][0]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        is_second = rows >= len(self.first)
        out[~is_second] = self.first[rows[~is_second]]
        out[is_second] = self.second[rows[is_second] - len(self.first)]
        return out


Images = np.ndarray | Pixels | JoinedImages  # (N, H, W, C) uint8 or uint16, indexed by rows
