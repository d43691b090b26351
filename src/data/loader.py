"""Batches from the cache: gathered, resized and augmented in this process; uint8, or uint16, out."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import torch

from src.competitions.boxes import moved
from src.competitions.spec import Follow
from src.config import Augment
from src.core.world import World
from src.data.augment import augment_batch
from src.data.augmentations import AugmentParams, draw_params
from src.data.concat import concat_batch, concat_widths
from src.data.images import resize
from src.data.in_blocks import WINDOW, Blocks
from src.data.keyed import keyed_uniforms
from src.data.levels import Levels
from src.data.pixels import Images, height_of
from src.data.transform import WHITE
from src.data.weighting import LossWeights, drawn

INFERENCE_BATCH_SIZE = 256  # images a batch when nothing is learned; on a CPU no other size is faster


class Batch(TypedDict):
    """index (B,) int64: rows of the cache; image (B, H, W, C); target (B, num_targets), int64 or float32; count:
    images of the whole batch, of which this rank has B; weight (B, num_targets) float32: what each target counts; boxes
    (B, 4) float32: where in its image each string is, see Loader, or NaN."""

    index: torch.Tensor
    image: torch.Tensor
    target: torch.Tensor
    count: int
    weight: NotRequired[torch.Tensor]
    boxes: NotRequired[torch.Tensor]


class Batches(Protocol):
    """Where a training gets its batches: a Loader, or a view of one on the GPU or on features."""

    @property
    def batch_size(self) -> int: ...

    @property
    def num_images(self) -> int:
        """Of an epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


def gather(images: "Images | Blocks", rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (B, H, W, C) copies of the cache's rows at `size`: for training, validation and test alike."""
    picked = images[rows]
    if picked.shape[1:3] == tuple(size):
        return picked
    return np.stack([resize(image, size) for image in picked])


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Batches of `rows` of a cache, in order, or shuffled and augmented if there is a policy.

    Threads prepare batches ahead (opencv and numpy release the GIL); the batches do not depend on their number. There
    are no worker processes, so nothing passes through /dev/shm.
    """

    images: Images  # (N, H, W, C) uint8 or uint16
    rows: np.ndarray  # (M,) int64, the rows to serve
    targets: np.ndarray  # (M, num_targets) int64 or float32, in the order of rows
    image_size: tuple[int, int]
    batch_size: int
    policy: Augment | None = None
    weights: LossWeights | None = None  # of targets in the loss; None: all count 1
    shares: np.ndarray | None = None  # (M,) float64, running sums of how often each is drawn; None: once an epoch
    repeats: int = 1  # copies of each image in a batch, each augmented differently
    levels: Levels | None = None  # of a competition's bands
    hflip_ok: bool = False
    pad_class: int | None = None  # the class that pads strings
    follow: Follow | None = None  # how targets change with images that are moved
    boxes: np.ndarray | None = None  # (M, 4) around all characters, in shares: left, top, right, bottom; NaN: not known
    serves_boxes: bool = False  # whether they are served too, as they lie in the changed images
    seed: int = 0
    variants: np.ndarray | None = None  # (images, K) positions of what may be served instead of each; -1: none
    numbers: np.ndarray | None = None  # (N,) position of each of the cache's rows in prepare's table, if it is another
    num_threads: int = 0
    progressive_resize: float = 1.0  # share of the image size in epoch 0 ...
    resize_epochs: int = 0  # ... which grows evenly to 1 in this epoch
    in_blocks: bool = False  # whether to read neighbouring rows together, for a cache larger than the memory
    world: World = World()  # ranks share each batch of a training, and take turns with whole batches otherwise
    pin: bool = False  # page-locked batches, which a GPU copies while it computes

    @property
    def num_prefetched(self) -> int:
        """Batches that are ready or being made when one is asked for."""
        return 2 * self.num_threads

    @property
    def num_images(self) -> int:
        """Images of an epoch: those of `rows` that are not variants, which come last."""
        return len(self.rows) if self.variants is None else len(self.variants)

    def __len__(self) -> int:
        if self.policy:  # a smaller last batch would upset batch norm: its images come in another epoch
            return max(1, self.num_images // self.batch_size)
        return -(-self.num_images // self.batch_size)

    def in_order(self, batch_size: int | None = None) -> "Loader":
        """Return a loader of the same images as they are: in order, at full size, without augmentation."""
        return replace(
            self,
            policy=None,
            weights=None,
            boxes=None,
            batch_size=batch_size or INFERENCE_BATCH_SIZE,
            progressive_resize=1.0,
        )

    def size_at(self, epoch: int) -> tuple[int, int]:
        """Return (height, width) of an epoch's images: multiples of 8 pixels while they grow."""
        if self.progressive_resize >= 1 or epoch >= self.resize_epochs:
            return self.image_size
        share = self.progressive_resize + (1 - self.progressive_resize) * epoch / self.resize_epochs
        height, width = (min(side, max(8, 8 * round(share * side / 8))) for side in self.image_size)
        return height, width

    def params_of(self, whole: np.ndarray, first: int, epoch: int, boxes: np.ndarray | None) -> AugmentParams:
        """Return the random changes of this rank's images in a batch that begins at position `first` of an epoch."""
        assert self.policy
        white, keys, size = self.levels.white if self.levels else WHITE, self.keys_of(whole, first), self.size_at(epoch)
        return draw_params(self.policy, keys, size, seed=self.seed + 1, epoch=epoch, white=white, boxes=boxes)

    def boxes_of(self, positions: np.ndarray, joined: np.ndarray | None) -> np.ndarray | None:
        """Return the boxes of images, (B, 4); of those that are `joined`, (B,) bool, with others they are not known."""
        if self.boxes is None:
            return None
        return self.boxes[positions] if joined is None else np.where(joined[:, None], np.nan, self.boxes[positions])

    def followed(self, target: np.ndarray, params: AugmentParams, size: tuple[int, int]) -> np.ndarray:
        """Return the targets of changed images."""
        return self.follow(target, params.matrices, size) if self.follow else target

    def moved_boxes(self, boxes: np.ndarray | None, params: AugmentParams, size: tuple[int, int]) -> np.ndarray | None:
        """Return the boxes as they lie in changed images, if they are served."""
        return moved(boxes, params.matrices, size) if self.serves_boxes and boxes is not None else None

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """Return what random draws of images depend on: their positions in the table that prepare read."""
        return rows if self.numbers is None else self.numbers[rows]

    def keys_of(self, whole: np.ndarray, first: int) -> np.ndarray:
        """Return what this rank's draws depend on in a batch that begins at position `first` of an epoch.

        Where images are drawn several times in an epoch it is the position too: each time they are changed otherwise.
        """
        numbers = self.numbers_of(self.rows[self.own(whole)])
        if self.shares is None and self.repeats == 1:
            return numbers
        return numbers + len(self.images) * (1 + first + self.own(np.arange(len(whole))))

    @property
    def block_height(self) -> int:
        """How many rows of the cache are read together if it is read in blocks."""
        return height_of(self.images)

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions in `rows` in the order of this epoch, a function of (seed, epoch) alone."""
        positions = np.arange(self.num_images)
        if not self.policy:
            return positions
        if self.repeats > 1:
            order = replace(self, repeats=1).order(epoch)
            return np.repeat(order[: max(1, len(order) // self.repeats)], self.repeats)
        if self.variants is not None:
            return self._varied(replace(self, variants=None, rows=self.rows[: self.num_images]).order(epoch), epoch)
        if self.shares is not None:
            positions = drawn(self.seed + 4, epoch, self.shares)
            if not self.in_blocks:
                return positions
        draws = keyed_uniforms(self.seed, epoch, np.arange(len(positions)), 1)[:, 0]
        if not self.in_blocks:
            return np.argsort(draws, kind="stable")
        # Blocks come in random order, and each image up to WINDOW blocks later: few blocks are in use at a time.
        blocks = self.rows[positions] // self.block_height
        ranks = np.argsort(np.argsort(keyed_uniforms(self.seed + 3, epoch, np.arange(blocks.max() + 1), 1)[:, 0]))
        return positions[np.argsort(ranks[blocks] + WINDOW * draws, kind="stable")]

    def _varied(self, order: np.ndarray, epoch: int) -> np.ndarray:
        """Return an order in which some images are replaced by one of their variants."""
        assert self.policy
        assert self.variants is not None
        draws = keyed_uniforms(self.seed + 5, epoch, self.numbers_of(self.rows[order]), 2)
        found = self.variants[order, (draws[:, 1] * self.variants.shape[1]).astype(np.int64)]
        return np.where((draws[:, 0] < self.policy.recombine) & (found >= 0), found, order)

    @property
    def concatenates(self) -> bool:
        """Whether some strings are concatenated."""
        return bool(self.policy and self.policy.concat and self.pad_class is not None)

    def concatenated(self, positions: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each image the position of the one to its right, the width it keeps, and the joined targets.

        In blocks that is its partner in the reversed batch, which `World.share_of` leaves to the same rank.
        """
        assert self.policy
        assert self.policy.concat
        assert self.pad_class is not None
        draws = keyed_uniforms(self.seed + 2, epoch, self.numbers_of(self.rows[positions]), 2)
        partners = positions[::-1] if self.in_blocks else (draws[:, 0] * self.num_images).astype(np.int64)
        chosen, width = draws[:, 1] < self.policy.concat, self.size_at(epoch)[1]
        return partners, *concat_widths(self.targets[positions], self.targets[partners], chosen, self.pad_class, width)

    def own(self, positions: np.ndarray, rank: int | None = None) -> np.ndarray:
        """Return this rank's part, or another one's, of a batch to train on."""
        if not self.policy or self.world.size == 1:
            return positions
        return positions[self.world.share_of(len(positions), self.world.rank if rank is None else rank)]

    def _batch(self, whole: np.ndarray, first: int, epoch: int, cache: Images | Blocks) -> Batch:
        positions = self.own(whole)
        rows, size = self.rows[positions], self.size_at(epoch)
        images, target, beside, joined = gather(cache, rows, size), self.targets[positions], None, None
        if self.concatenates:
            partners, kept, target = self.concatenated(positions, epoch)
            joined = kept < size[1]
            beside = np.where(joined, partners, positions)
            others = images[::-1].copy() if self.in_blocks else gather(cache, self.rows[partners], size)
            concat_batch(images, others, kept)
        boxes = self.boxes_of(positions, joined)
        if self.policy and self.policy.changes_pixels():
            params = self.params_of(whole, first, epoch, boxes)
            images, target = augment_batch(images, params, self.hflip_ok), self.followed(target, params, size)
            boxes = self.moved_boxes(boxes, params, size)
        batch: Batch = {
            "index": torch.from_numpy(rows),
            "image": torch.from_numpy(images),
            "target": torch.from_numpy(target),
            "count": len(whole),
        }
        if self.weights:
            batch["weight"] = torch.from_numpy(self.weights.of(positions, target, beside))
        if self.serves_boxes and boxes is not None:
            batch["boxes"] = torch.from_numpy(boxes.astype(np.float32))
        if self.pin:
            batch["image"], batch["target"] = batch["image"].pin_memory(), batch["target"].pin_memory()
        return batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches, all or those from number `start`."""
        order = self.order(epoch)
        firsts = [number * self.batch_size for number in range(start, len(self))]
        if not self.policy:
            firsts = firsts[self.world.rank :: self.world.size]
        parts = [order[first : first + self.batch_size] for first in firsts]
        cache: Images | Blocks = self.images
        if self.in_blocks and parts:
            rows = self.rows[np.concatenate([self.own(part) for part in parts])]
            cache = Blocks(self.images, rows, self.block_height)
        if not self.num_threads:
            yield from (self._batch(part, first, epoch, cache) for part, first in zip(parts, firsts, strict=True))
            return
        with ThreadPoolExecutor(self.num_threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for part, first in zip(parts, firsts, strict=True):
                    waiting.append(pool.submit(self._batch, part, first, epoch, cache))
                    if len(waiting) > self.num_prefetched:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def unlabelled(images: Images, rows: np.ndarray, size: tuple[int, int], hflip_ok: bool = False) -> Loader:
    """Serve rows (M,) of images (N, H, W, C) in order, for predictions."""
    return Loader(
        images=images,
        rows=rows,
        targets=np.zeros((len(rows), 0), np.int64),
        image_size=size,
        batch_size=INFERENCE_BATCH_SIZE,
        hflip_ok=hflip_ok,
    )
