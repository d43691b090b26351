"""Which folds prepare makes: k-fold, the organiser's own, one held-out part, or a file of the user's."""

from dataclasses import replace

import pandas as pd

from src.competitions.spec import Competition
from src.config import PrepareConfig
from src.core.errors import InputError
from src.core.flags import flags_of
from src.data import folds as folding

MAX_DEFAULT_VAL = 1000  # images of --split holdout, if a fifth would be more
PRETEXT_VAL = 100  # the same if the score means nothing


def num_val_of(config: PrepareConfig, num_images: int, most: int = MAX_DEFAULT_VAL) -> int:
    """Return how many images --split holdout holds out, by default a fifth but not more than `most`."""
    return config.num_val if config.num_val is not None else min(most, max(1, num_images // 5))


def _split_of(config: PrepareConfig, competition: Competition, num_images: int) -> PrepareConfig:
    """Return the flags; of a competition that only pretrains a network such that few images are held out.

    Raises InputError for flags that make no sense there.
    """
    if not competition.pretext:
        return config
    given = f"--folds {config.folds}" if config.folds else "--split official" if config.split == "official" else ""
    if config.relabel:
        given = f"--relabel {config.relabel[0]}"
    if given:
        raise InputError(
            f"{given}: {competition.name} pretrains a network without labels, and is not scored; leave it out"
        )
    return replace(config, split="holdout", num_val=num_val_of(config, num_images, PRETEXT_VAL))


def without_effect(config: PrepareConfig) -> dict[str, str]:
    """Return the flags that say something about another way to split, and a line about each."""
    chosen = f"--folds {config.folds}" if config.folds else f"--split {config.split}"
    belongs = {"num_val": "--split holdout", "num_folds": "--split kfold"}
    return {
        name: f"note:{flags_of(config, name)} has no effect with {chosen}; it belongs to {way}"
        for name, way in belongs.items()
        if way != chosen and getattr(config, name) != getattr(PrepareConfig, name)
    }


def check_split(config: PrepareConfig, labels: pd.DataFrame, competition: Competition) -> None:
    """Raise InputError if these folds cannot be made, before any image is decoded; `make_folds` checks groups too."""
    num_images = len(labels)
    config = _split_of(config, competition, num_images)
    if config.folds:
        folding.from_file(config.folds, labels, complete=False)  # images may be skipped yet
    elif config.split == "official":
        folding.official(labels, competition.name)
    elif config.split == "holdout":
        folding.check_num_val(num_val_of(config, num_images), num_images)
    elif not 2 <= config.num_folds <= num_images:
        raise InputError(f"--num-folds {config.num_folds}: from 2 to {num_images:,} folds are possible")


def make_folds(config: PrepareConfig, labels: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Return image_path and fold of usable labelled images, whose `group` is known. Raises InputError."""
    config = _split_of(config, competition, len(labels))
    if config.folds:
        folds = folding.from_file(config.folds, labels)
    elif config.split == "holdout":
        folds = folding.holdout(labels, competition, num_val_of(config, len(labels)), config.seed)
    elif config.split == "official":
        folds = folding.official(labels, competition.name)
    else:
        folds = folding.kfold(labels, competition, config.num_folds, config.seed)
    joined = folds.merge(labels[["image_path", "group", *competition.targets]], on="image_path", validate="one_to_one")
    leaks = folding.split_groups(joined)
    if leaks:
        print(f"warning: groups of duplicates on both sides of a fold: {leaks}; its score will be too high")
    alone = folding.in_one_fold(joined, competition)
    if alone:
        (text, fold), largest = alone[0], int(labels["group"].value_counts().iloc[0])
        others = f", as are all of {len(alone) - 1} other classes" if len(alone) > 1 else ""
        print(
            f"warning: all images of class {text!r} are held out by fold {fold}{others}: its network has not seen any, "
            "so the score will be too low"
        )
        if largest > 1 and not config.folds and config.split != "official":
            print(
                f"note: the largest group, which no fold may split, has {largest:,} of {len(labels):,} images: "
                "duplicates (see --no-duplicates), or a group of the competition"
            )
    return folds
