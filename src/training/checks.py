"""Flags of train that are out of range, or do not go with each other or with the competition."""

import math
from dataclasses import asdict

from timm.optim import list_optimizers

from src.competitions.spec import Competition
from src.config import Augment, TrainConfig
from src.config.train import WITHOUT_LABELS
from src.core.errors import InputError, nearest
from src.core.flags import check_apart, check_name, check_range
from src.data.augmentations import of_bands, unmoved
from src.inference.autotune import check_compile
from src.inference.views import candidates
from src.models.contract import begins_at_random, find_backbone
from src.training.auxiliary_heads import check_auxiliary_heads
from src.training.losses import LOSSES
from src.training.pretraining import check_pretraining
from src.training.pseudo_labels import check_pseudo_labels
from src.training.starting import check_start


def _check_ranges(config: TrainConfig) -> None:
    """Raise InputError for a number that is out of range."""
    for name in ("epochs", "batch_size", "aug_repeats", "accumulate", "early_stopping"):
        check_range(name.replace("_", "-"), getattr(config, name), 1)
    for name in ("mixup", "cutmix", "seed", "num_threads", "weight_decay", "sam", "synthetic"):
        check_range(name.replace("_", "-"), getattr(config, name), 0)
    for name in ("lr", "clip_grad"):
        check_range(name.replace("_", "-"), getattr(config, name), 1e-9)
    for name in ("warmup", "label_smoothing", "dropout", "drop_path", "ema", "momentum"):
        check_range(name.replace("_", "-"), getattr(config, name), 0, 0.99999)
    check_range("progressive-resize", config.progressive_resize, 0.1, 1)
    check_range("pseudo-confidence", config.pseudo_confidence, 0, 1)
    check_range("suspects-weight", config.suspects_weight, 0, 1)
    check_range("save-every", config.save_every, 0)
    check_range("rank-timeout", config.rank_timeout, 0.1)
    check_range("layer-decay", config.layer_decay, 0.01, 1)
    for name, value in asdict(config.augment).items():
        check_range(f"augment.{name.replace('_', '-')}", value, 0, 180 if name in ("rotate", "shear") else 1)


def check_flags(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for flags that are out of range or contradict each other or the competition."""
    if config.loss not in LOSSES:
        raise InputError(f"--loss {config.loss}: {nearest(config.loss, [*LOSSES])}")
    _check_ranges(config)
    _check_together(config)
    check_start(config)
    check_pretext(config, competition)
    check_name("run-name", config.run_name)
    check_compile(config.compile)
    check_new_strings(config, competition)
    check_auxiliary_heads(config, competition)
    _check_images(config, competition)
    if competition.heads:  # some competitions know them only from the labels, when these have been read
        check_weights(config, competition)
    candidates(config.views, competition, (64, 64))  # fail now on an unknown view
    known = [str(name) for name in list_optimizers(exclude_filters=["fused*", "bnb*", "adahessian"])]
    if config.optimizer not in known:
        raise InputError(f"--optimizer {config.optimizer}: {nearest(config.optimizer, known)}")
    if not config.backbone.endswith(".py"):  # a lost file is not needed to resume
        find_backbone(config.backbone)  # fail now on an unknown one
    is_random = begins_at_random(config.backbone, config.pretrained, config.weights)
    if config.freeze_backbone and is_random and not config.start_from:
        raise InputError(
            f"--freeze-backbone: features of random weights are useless, and {config.backbone} begins with them; give "
            "--weights"
        )


def _check_together(config: TrainConfig) -> None:
    """Raise InputError for flags that contradict each other whatever the competition."""
    if config.freeze_backbone and (
        config.mixup or config.cutmix or config.progressive_resize < 1 or config.aug_repeats > 1
    ):
        raise InputError(
            "--freeze-backbone: mixup, cutmix, progressive-resize and aug-repeats need images, not features; leave "
            "them out"
        )
    if config.sync_batch_norm and config.compile:
        raise InputError(
            "--sync-batch-norm --compile: torch.compile does not support synchronised batch norm here; use only one"
        )
    if config.resume and config.restart:
        raise InputError("--resume --restart: one continues, the other starts over; give one of them")
    if config.batch_size < 2 * config.accumulate:
        raise InputError(
            f"--batch-size {config.batch_size} --accumulate {config.accumulate}: batch norm needs 2 images at once"
        )
    if config.batch_size % config.aug_repeats:
        raise InputError(
            f"--batch-size {config.batch_size} --aug-repeats {config.aug_repeats}: the copies of an image would be in "
            "two batches; give a multiple"
        )


def _check_images(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for changes of images that the competition's labels or bands do not allow."""
    if config.augment.hflip and not competition.hflip_ok:
        raise InputError(
            f"--augment.hflip {config.augment.hflip}: a horizontal flip changes {competition.name}'s labels"
        )
    if config.augment.concat and competition.pad_class is None:
        raise InputError(f"--augment.concat {config.augment.concat}: {competition.name}'s answers are not strings")
    if competition.bands:
        of_bands(config.augment)
    if not competition.moves_ok:
        if not competition.follow:
            unmoved(config.augment, competition.name)
        if config.cutmix:
            raise InputError(f"--cutmix {config.cutmix}: would change the labels of {competition.name}; leave it out")
    if config.augment.crop and competition.is_string:
        raise InputError(f"--augment.crop {config.augment.crop:g}: would cut characters off; use --augment.zoom")
    if config.cutmix and competition.is_string:
        raise InputError(f"--cutmix {config.cutmix}: would cut strings apart; use it with one class per image")


def without_effect(config: TrainConfig) -> list[str]:
    """Return a note for each flag that does nothing without another one, or beside one: sweeps combine them on
    purpose."""
    needs = {"suspects_weight": "suspects", "fonts": "synthetic", "pseudo_confidence": "pseudo_labels"}
    changed = [flag for flag in needs if getattr(config, flag) != getattr(TrainConfig, flag)]
    notes = [
        f"note: --{flag.replace('_', '-')} does nothing without --{needs[flag].replace('_', '-')}"
        for flag in changed
        if not getattr(config, needs[flag])
    ]
    if config.pretrained and not config.start_from and begins_at_random(config.backbone, True, config.weights):
        notes.append(f"note: {config.backbone} has no pretrained weights, so it starts from random ones")
    if config.loss in WITHOUT_LABELS:
        notes += [
            f"note: --{flag.replace('_', '-')} does nothing with --loss {config.loss}, which uses no labels"
            for flag in ("label_smoothing", "class_weights", "head_weights")
            if getattr(config, flag) not in (getattr(TrainConfig, flag), 0)
        ]
    if config.freeze_backbone and (config.augment != Augment() or config.drop_path):
        notes.append("note: --freeze-backbone trains on the features of plain images: augmentation and drop-path do "
                     "nothing")  # fmt: skip
    if config.freeze_backbone and config.backbone.endswith(".py") and not (config.weights or config.start_from):
        notes.append(f"note: --freeze-backbone keeps the features of {config.backbone}, which are useless unless it "
                     "loads weights itself; --weights FILE gives it some")  # fmt: skip
    return notes


def check_pretext(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for what makes no sense, or leads nowhere, if a network is only pretrained."""
    if config.loss in WITHOUT_LABELS:
        check_pretraining(config, competition)
    if not competition.pretext:
        return
    for flag, given in (("--keep best", config.keep == "best"), ("--early-stopping", config.early_stopping)):
        if given:
            raise InputError(f"{flag}: the score of {competition.name} means nothing; leave it out")
    if find_backbone(config.backbone).takes_head_widths:
        raise InputError(
            f"--backbone {config.backbone}: is built for strings, and {competition.name} has a single class; "
            "its weights would not fit; choose another network"
        )


def check_new_strings(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError if characters cannot be recombined or cropped to, or strings cannot be drawn."""
    asked = {
        f"--augment.recombine {config.augment.recombine:g}": config.augment.recombine,
        f"--augment.text-crop {config.augment.text_crop:g}": config.augment.text_crop,
        f"--synthetic {config.synthetic}": config.synthetic,
    }
    for flag in (flag for flag, value in asked.items() if value):
        if not competition.is_string:
            raise InputError(f"{flag}: {competition.name}'s answers are not strings")
        check_apart(flag, config, "freeze_backbone", "cache_url", "soft_labels")
    if config.synthetic and competition.bands:
        raise InputError(
            f"--synthetic {config.synthetic}: draws ordinary pictures, not the bands of {competition.name}"
        )


def check_weights(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError for weights or draws that do not fit the competition's heads."""
    weights, kinds = config.head_weights, competition.layout.kinds
    legal = all(math.isfinite(weight) and weight >= 0 for weight in weights or ())
    if weights and (len(weights) != len(kinds) or not legal or not any(weights)):
        raise InputError(f"--head-weights: give {len(kinds)} numbers of 0 or more, one for each head")
    if {"labels", "ordinal"} & set(kinds) and "labels" not in LOSSES[config.loss]:
        raise InputError(f"--loss {config.loss}: is for classes only; choose another one")
    if config.loss != TrainConfig.loss and set(kinds) == {"number"}:
        raise InputError(f"--loss {config.loss}: {competition.name}'s answer is a number, which has a loss of its own")
    if config.sampler != "uniform" and kinds[0] == "number":
        raise InputError(f"--sampler {config.sampler}: {competition.name}'s answer is a number, not a class")
    if config.class_weights and competition.pad_class is not None:
        raise InputError(f"--class-weights: later positions of {competition.name}'s strings are mostly empty, so that "
                         "rare characters there would outweigh all others; use --head-weights")  # fmt: skip
    if config.class_weights and "number" in kinds:
        raise InputError(f"--class-weights: {competition.name}'s answer is a number, not a class")
    check_pseudo_labels(config, competition)
    if config.soft_labels and (competition.pad_class is not None or config.class_weights):
        raise InputError("--soft-labels: is not for strings, and not together with --class-weights")
