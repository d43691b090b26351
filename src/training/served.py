"""What a loader serves: the images of a fold, and those that are added to train on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.machine import memory_limit
from src.data.boxes import around_all, boxes_in_cache
from src.data.cache import ImageCache
from src.data.pixels import Images, JoinedImages
from src.data.prepared import Prepared
from src.data.recombine import recombined
from src.data.synthetic import synthetic
from src.training.pseudo_labels import PseudoLabels

TOO_LARGE = "images and at least one variant of each must fit into memory; leave it out"
MAX_MEMORY_SHARE = 0.7  # of the memory for a cache; the images of a larger one are shuffled in blocks


class Served(NamedTuple):
    """What a loader serves: images (N, H, W, C), the rows (M,) of some of them and their targets (M, num_targets).

    Also the numbers (N,) that draws of the images depend on, what each row counts (M,), and variants of the first rows
    and boxes of all, see Loader.
    """

    images: Images
    rows: np.ndarray
    targets: np.ndarray
    numbers: np.ndarray | None = None
    weights: np.ndarray | None = None
    variants: np.ndarray | None = None
    boxes: np.ndarray | None = None

    def _with(
        self,
        images: Images,
        numbers: np.ndarray | None,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | float,
    ) -> "Served":
        """Return this and the `rows` of other images; `numbers` of all those, from 0, and what each row counts."""
        first = np.arange(len(self.images)) if self.numbers is None else self.numbers
        second = np.arange(len(images)) if numbers is None else numbers
        counts = np.broadcast_to(np.asarray(weights, np.float32), len(rows))
        return self._replace(
            images=JoinedImages(self.images, images),
            numbers=np.concatenate([first, first.max(initial=-1) + 1 + second]),
            rows=np.concatenate([self.rows, len(self.images) + rows]),
            targets=np.concatenate([self.targets, targets.astype(self.targets.dtype)]),
            weights=None if self.weights is None else np.concatenate([self.weights, counts]),
            boxes=None if self.boxes is None else np.concatenate([self.boxes, np.full((len(rows), 4), np.nan)]),
        )

    def with_pseudo_labels(self, pseudo: PseudoLabels, cache: ImageCache, prepared: Prepared) -> "Served":
        """Return this and the test images that a teacher has answered, each of which counts 1."""
        test, table = prepared.cache("test", cache.image_size), pseudo.table
        rows = test.rows_of(table["image_path"].tolist())
        return self._with(test.images, test.numbers, rows, table[prepared.competition.targets].to_numpy(), 1.0)

    def with_synthetic(self, config: TrainConfig, prepared: Prepared) -> "Served":
        """Return this and strings that are drawn, each of which counts 1."""
        image_bytes = self.images.nbytes / max(1, len(self.images))
        if config.synthetic * image_bytes > MAX_MEMORY_SHARE * memory_limit():
            raise InputError(f"--synthetic {config.synthetic}: so many images do not fit into memory; give fewer")
        fonts = Path(config.fonts) if config.fonts else None
        made = synthetic(
            self.images, self.rows, self.targets, prepared.competition, config.synthetic, fonts,
            prepared.decoding.fit, config.seed + 7,
        )  # fmt: skip
        print(f"synthetic: {len(made.images):,} strings drawn with {made.num_fonts} font{'s' * (made.num_fonts > 1)}")
        return self._with(made.images, None, np.arange(len(made.images)), made.targets, 1.0)

    def with_boxes(self, flag: str, boxes: np.ndarray, competition: Competition, size: tuple[int, int]) -> "Served":
        """Return this with the box around each string; boxes (N, num_positions, 4). Raises InputError for none."""
        there = np.ones(self.targets.shape, bool)
        if competition.pad_class is not None:
            there = self.targets != competition.pad_class
        around = around_all(there, boxes, size)
        count = int(np.isfinite(around).all(axis=1).sum())
        if not count:
            raise InputError(f"{flag}: no training image of {competition.name} has a box for each character")
        if count < len(around):
            print(f"boxes: {count:,} of {len(around):,} training images have one for each character")
        return self._replace(boxes=around)

    def with_recombined(self, boxes: np.ndarray, config: TrainConfig, competition: Competition) -> "Served":
        """Return this and variants of the images with boxes; boxes (cache's images, num_positions, 4)."""
        if 2 * self.images.nbytes > MAX_MEMORY_SHARE * memory_limit():
            raise InputError(f"--augment.recombine: {TOO_LARGE}")
        own = self.rows < len(boxes)
        at_rows = np.full((len(self.rows), *boxes.shape[1:]), np.nan)
        at_rows[own] = boxes[self.rows[own]]
        pad_class = -1 if competition.pad_class is None else competition.pad_class  # -1: all positions are taken
        made = recombined(self.images, self.rows, self.targets, at_rows, pad_class, config.seed + 6)
        filled, count = made.of_image >= 0, len(made.images)
        if not count:
            raise InputError(f"--augment.recombine: no two training images of {competition.name} have boxes")
        print(f"recombined: {count:,} variants of {int(filled.any(axis=1).sum()):,} training images")
        origin = np.empty(count, np.int64)
        origin[made.of_image[filled]] = np.nonzero(filled)[0]
        weights = 1.0 if self.weights is None else self.weights[origin]
        joined = self._with(made.images, None, np.arange(count), made.targets, weights)
        return joined._replace(variants=np.where(filled, len(self.rows) + made.of_image, -1))


def needs_boxes(config: TrainConfig) -> str:
    """Return the first flag that needs characters' boxes; "" for none."""
    flags = {
        "--augment.recombine": config.augment.recombine,
        "--augment.text-crop": config.augment.text_crop,
        "--box-head": config.box_head,
    }
    return next((flag for flag, value in flags.items() if value), "")


def boxes_of(flag: str, prepared: Prepared, cache: ImageCache) -> np.ndarray:
    """Return the boxes of the cache's images, (N, num_positions, 4), see boxes_in_cache. Raises InputError."""
    num_positions, shapes, found = len(prepared.competition.heads), cache.readings.shapes, None
    for chunk in prepared.chunks("labels.csv"):
        if "boxes" not in chunk or shapes is None:
            break
        if found is None:
            found = np.full((len(cache.images), num_positions, 4), np.nan)
        paths = chunk["image_path"].tolist()
        rows = cache.rows_of(paths)
        how = prepared.decoding.fit
        found[rows] = boxes_in_cache(chunk["boxes"].tolist(), paths, shapes[rows], cache.image_size, how, num_positions)
    if found is None:
        raise InputError(
            f"{flag}: prepare has kept no boxes of {prepared.competition.name}, or no image sizes; "
            f"leave it out, or run {prepared.command(size=cache.image_size)} if its labels have a column boxes"
        )
    return found
