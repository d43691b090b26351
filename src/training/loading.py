"""The loader of a training: what it serves, in which order, changed how, and from which memory."""

from dataclasses import replace

import numpy as np

from src.competitions.spec import Competition
from src.config import Augment, TrainConfig
from src.core.errors import InputError
from src.core.machine import memory_limit
from src.core.runtime import Compute
from src.data.augmentations import cpu_only, moved_if_asked, of_bands, unmoved
from src.data.device import fits, on_device
from src.data.levels import levels_of
from src.data.loader import INFERENCE_BATCH_SIZE, Batches, Loader
from src.data.pixels import Images
from src.data.remote import RemotePixels
from src.data.weighting import LossWeights, loss_weights, sampling_shares
from src.training.served import MAX_MEMORY_SHARE, TOO_LARGE, Served

SAMPLERS = {"uniform": 0.0, "sqrt": 0.5, "balanced": 1.0}  # the power of a class's rarity in what is drawn
RESIZE_SHARE = 0.7  # share of the epochs in which images grow with --progressive-resize


def _policy_of(augment: Augment, competition: Competition) -> Augment:
    """Return the random changes that suit a competition, with its defaults for those that are None."""
    policy = of_bands(augment) if competition.bands else augment
    if not competition.moves_ok:
        policy = moved_if_asked(policy) if competition.follow else unmoved(policy, competition.name)
    hflip, concat = 0.5 * competition.hflip_ok, 0.4 * (competition.pad_class is not None)
    return replace(
        policy,
        hflip=hflip if policy.hflip is None else policy.hflip,
        concat=concat if policy.concat is None else policy.concat,
    )


def _begin_blocks(images: Images, variants: np.ndarray | None, train: bool) -> None:
    """Tell that a training reads its cache in blocks. Raises InputError if there are variants of its images."""
    if variants is not None:
        raise InputError(f"--augment.recombine: {TOO_LARGE}")
    if not train:
        return
    where = "read from --cache-url" if isinstance(images, RemotePixels) else "larger than the memory"
    print(f"the cache of {images.nbytes / 2**30:.1f} GiB is {where}: images are shuffled in blocks")


def _weights_of(
    config: TrainConfig, competition: Competition, targets: np.ndarray, images: np.ndarray | None, count: int
) -> LossWeights | None:
    """Return what counts more than 1 or less in the loss, so that it is 1 on average over the first `count` images;
    the others are their variants. targets (M, num_targets), images (M,)."""
    first = None if images is None else images[:count]
    weights = loss_weights(competition, targets[:count], first, config.head_weights, config.class_weights)
    if weights is None or images is None:
        return weights
    return replace(weights, images=(images / images[:count].mean()).astype(np.float32))


def _shares_of(config: TrainConfig, competition: Competition, targets: np.ndarray) -> np.ndarray | None:
    """Return the cumulative shares by which --sampler draws images, (M,), or None if each is drawn once."""
    power = SAMPLERS[config.sampler]
    return np.cumsum(sampling_shares(competition, targets, power)) if power else None


def make_loader(
    config: TrainConfig,
    competition: Competition,
    compute: Compute,
    served: Served,
    size: tuple[int, int],
    *,
    train: bool,
    in_blocks: bool | None = None,
    soft: np.ndarray | None = None,
) -> Loader:
    """Serve images at `size` (height, width), to train on or to score.

    A cache larger than the memory is read in its own order or in blocks, whatever the order of the rows; a resumed
    training gives `in_blocks`, to keep the order in which it began. `soft` (M, num_outputs) are trained on instead of
    the M targets.
    """
    images, rows, targets, numbers, weights, variants, boxes = served
    if len(rows) == 0:
        raise InputError("no image is left to train on or to score; look at folds.csv")
    if in_blocks is None:
        in_blocks = images.nbytes > MAX_MEMORY_SHARE * memory_limit()
    if in_blocks:
        _begin_blocks(images, variants, train)
        order = np.argsort(rows)
        rows, targets = rows[order], targets[order]
        weights, soft, boxes = (None if each is None else each[order] for each in (weights, soft, boxes))
    num_images = len(rows) if variants is None else len(variants)
    return Loader(
        images=images,
        rows=rows,
        targets=targets if soft is None else soft,
        weights=_weights_of(config, competition, targets, weights, num_images) if train else None,
        shares=_shares_of(config, competition, targets[:num_images]) if train else None,
        repeats=config.aug_repeats if train else 1,
        image_size=size,
        batch_size=config.batch_size if train else INFERENCE_BATCH_SIZE,
        progressive_resize=config.progressive_resize if train else 1.0,
        resize_epochs=min(round(RESIZE_SHARE * config.epochs), config.epochs - 1),
        policy=_policy_of(config.augment, competition) if train else None,
        levels=levels_of(images) if train and competition.bands else None,
        hflip_ok=competition.hflip_ok,
        pad_class=competition.pad_class,
        follow=competition.follow,
        boxes=boxes,
        serves_boxes=bool(config.box_head),
        seed=config.seed,
        variants=variants,
        numbers=numbers,
        in_blocks=in_blocks and (train or isinstance(images, RemotePixels)),
        num_threads=compute.num_loader_threads if config.num_threads is None else config.num_threads,
        world=compute.world,
        pin=compute.device.type == "cuda",
    )


def choose_device_cache(config: TrainConfig, loader: Loader, compute: Compute) -> Batches:
    """Return the loader, or one that serves the same from the GPU's memory, if that is wanted and has room."""
    wanted = config.cache_on_device == "on" or (config.cache_on_device == "auto" and compute.device.type == "cuda")
    if compute.world.most(not wanted)[0]:  # all ranks or none, whatever their flags are
        return loader
    num_bytes, world = len(loader.rows) * loader.images[0].nbytes, compute.world
    if loader.policy and cpu_only(loader.policy):
        flags = ", ".join(f"--augment.{name}" for name in cpu_only(loader.policy))
        print(f"images stay in the machine's memory: {flags} runs on the CPU only")
        return loader
    full, part = world.most(not fits(num_bytes, compute.device), not fits(num_bytes // world.size, compute.device))
    if part:
        print(f"images stay in the machine's memory: the GPU has no room for {num_bytes / 2**30:.1f} GiB of them")
        return loader
    if full:
        print(f"each GPU holds a part of the images: none has room for all {num_bytes / 2**30:.1f} GiB")
    return on_device(loader, compute.device, config.compile, sharded=bool(full))
