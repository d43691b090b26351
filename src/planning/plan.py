"""From images a second and the time left to a recipe, epochs and folds. Nothing is measured or trained here."""

import math
from dataclasses import dataclass

from src.planning.recipes import Recipe

MARGIN = 0.92  # of the time left is planned for: measurements are short, and machines are busy at times
COMMAND_SECONDS = 8.0  # that a command takes to start and to write, besides what it computes
PROBE_SEEN = 200_000  # features seen by a linear probe
FEATURES_PER_SECOND = 5_000  # of a linear probe's epochs on a busy core; 2,000 to 11,000 were seen
MAX_PROBE_SHARE = 0.1  # of the time left that may go into a linear probe beside a full training


@dataclass(frozen=True, kw_only=True)
class Data:
    """How many images there are, and of how many views an answer is made."""

    num_images: int
    num_test: int
    num_views: int
    num_folds: int  # that there are
    fold_size: int  # images of the largest of them
    holdout_size: int | None = None  # images that would be held out instead of folds, if auto may choose that

    def num_val(self, folds: int) -> int:
        """Return how many images are held out in each training if so many folds are trained."""
        return self.holdout_size if folds == 1 and self.holdout_size else self.fold_size


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Images a second on this machine, as measured."""

    train: float
    predict: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is trained."""

    recipe: Recipe
    rates: Rates
    epochs: int
    folds: int
    views: int
    seconds: float  # that training, evaluating and predicting will take
    reason: str

    @property
    def most_epochs(self) -> int:
        return max(self.recipe.max_epochs, self.epochs)


def epoch_seconds(data: Data, rates: Rates, folds: int) -> float:
    """Return the seconds of an epoch with its score."""
    val = data.num_val(folds)
    return (data.num_images - val) / rates.train + val / rates.predict


def fold_tail(data: Data, rates: Rates, folds: int) -> float:
    """Return the seconds of a fold's out-of-fold and test predictions."""
    return (data.num_val(folds) + data.num_test) * data.num_views / rates.predict


def total_seconds(data: Data, rates: Rates, epochs: int, folds: int) -> float:
    """Return the seconds of training and everything after it."""
    each = epochs * epoch_seconds(data, rates, folds) + fold_tail(data, rates, folds)
    return folds * each + 2 * COMMAND_SECONDS


def affordable_epochs(data: Data, rates: Rates, folds: int, seconds: float) -> int:
    """Return how many epochs of so many folds fit into the seconds; 0 if none does."""
    left = seconds - total_seconds(data, rates, 0, folds)
    return max(0, int(left / (folds * epoch_seconds(data, rates, folds))))


def probe_seconds(data: Data, rates: Rates, has_flips: bool) -> float:
    """Return the seconds of a linear probe on one fold: features once, epochs on them, then predictions."""
    features = data.num_images * (2 if has_flips else 1) / rates.predict
    epochs = probe_epochs(data) * data.num_images / FEATURES_PER_SECOND
    return features + epochs + fold_tail(data, rates, 1) + 2 * COMMAND_SECONDS


def probe_epochs(data: Data) -> int:
    """Return the epochs of a linear probe: fewer of many images, which cost as much as they teach."""
    return max(4, min(24, PROBE_SEEN // data.num_images))


def _fitted(recipe: Recipe, data: Data, rates: Rates, seconds: float, least: int) -> Choice | None:
    """Return the most folds that see enough images each, or one fold with what there is time for."""
    for folds in range(data.num_folds, 0, -1):
        num_train = data.num_images - data.num_val(folds)
        most = max(recipe.max_epochs, math.ceil(recipe.least / num_train))  # few images are seen more often
        epochs = min(most, affordable_epochs(data, rates, folds, seconds))
        seen = epochs * num_train
        enough = seen >= recipe.good or epochs == most
        if epochs and (enough or folds == 1) and seen >= least:
            total = total_seconds(data, rates, epochs, folds)
            why = (
                f"{rates.train:,.0f} images/s in training: {epochs} epochs of {folds} fold{'s' * (folds > 1)}, "
                f"{seen:,} images seen by each (at least {recipe.least:,}, good: {recipe.good:,}), take {total:,.0f} s"
            )
            return Choice(
                recipe=recipe, rates=rates, epochs=epochs, folds=folds, views=data.num_views, seconds=total, reason=why
            )
    return None


def choose(measured: list[tuple[Recipe, Rates]], data: Data, seconds: float, at_all: bool = False) -> Choice | None:
    """Return the first recipe that there is time for, or None.

    `at_all`: if none sees the images that its table says it must, the one that comes nearest to that.
    """
    seconds *= MARGIN
    for recipe, rates in measured:
        if choice := _fitted(recipe, data, rates, seconds, recipe.least):
            return choice
    choices = [_fitted(recipe, data, rates, seconds, 0) for recipe, rates in measured] if at_all else []

    def nearness(choice: Choice) -> float:
        return choice.epochs * (data.num_images - data.num_val(choice.folds)) / max(1, choice.recipe.least)

    return max(filter(None, choices), key=nearness, default=None)
