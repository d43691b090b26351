"""The table of tested recipes that auto chooses from. Each says where it was tested and with what result.

What a training needs is counted in images seen, epochs times training images, since one epoch of 40,000 images teaches
what ten epochs of 4,000 do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from src.competitions.spec import Competition

SMALL = 40  # pixels of the shorter side up to which images are those of MNIST and CIFAR

TURNED = {"augment.invert": "0.3", "augment.shear": "8", "augment.stretch": "0.15"}
STRONG = {**TURNED, "drop_path": "0.1"}
MIXING = {
    "mixup": "0.2", "cutmix": "1.0", "drop_path": "0.15", "augment.zoom": "0.3", "label_smoothing": "0.1",
}  # fmt: skip


# What a training may start from: nothing, a network of photos, or one that reads texts (an ONNX file).
Start = Literal["scratch", "photos", "texts"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Flags of train for a kind of competition, and how many images it must see to be worth its time."""

    name: str
    tested: str
    flags: dict[str, str] = field(default_factory=dict)
    shorter: int | None = None  # pixels of the shorter side that the network sees; None: those of the cache
    is_narrow: bool = False  # whether the width is that of the string's positions, not the cache's aspect ratio
    fits: Callable[[Competition, int], bool] = lambda competition, shorter: True  # shorter side of the cache
    start: Start = "photos"
    always: bool = False  # from scratch, but better than a network of photos
    least: int = 0  # images seen from which it is better than the recipes below it in the table
    good: int = 0  # images seen from which further folds are worth more than further epochs
    max_epochs: int = 24  # more only if `least` images are not seen in so many

    @property
    def is_probe(self) -> bool:
        return "freeze_backbone" in self.flags


def _is_string(competition: Competition, shorter: int) -> bool:
    return competition.is_string


def _is_small(competition: Competition, shorter: int) -> bool:
    return shorter <= SMALL and not competition.is_string


def _is_photo(competition: Competition, shorter: int) -> bool:
    return shorter > SMALL and not competition.is_string


def _is_large(than: int) -> Callable[[Competition, int], bool]:
    """Return whether it makes a difference that a network sees only so many pixels."""
    return lambda competition, shorter: shorter >= 1.25 * than and not competition.is_string


PROBE = Recipe(
    name="linear probe",
    flags={"freeze_backbone": "True"},
    tested="svhn 64x128: 0.168 after 21 s; food11 64x64: 0.469 after 59 s (benchmarks/results/race.md)",
)
# The first that there is time for is taken.
RECIPES = (
    Recipe(
        name="strings, from a text recogniser",
        flags={**TURNED, "backbone": "text_recognition", "lr": "5e-4", "augment.concat": "0.1"},
        start="texts",
        shorter=48,
        is_narrow=True,
        tested="svhn 48x64: 0.947 after 42,000 images seen, mean of four folds (benchmarks/results/score.md)",
        good=40_000,
        max_epochs=14,
    ),
    Recipe(
        name="strings, strong augmentation",
        flags=STRONG,
        fits=_is_string,
        tested="svhn 64x128: 0.863 after 36,000 images seen, 0.897 after 72,000 (benchmarks/results/auto.md), 0.915 "
        "after 120,000, mean of four folds (benchmarks/results/score.md)",
        least=60_000,
        good=190_000,
        max_epochs=60,
    ),
    Recipe(
        name="strings",
        fits=_is_string,
        tested="svhn 64x128: 0.787 after 18,000 images seen, 0.875 after 36,000, 0.893 after 72,000 "
        "(benchmarks/results/street_view.md)",
        least=20_000,
        good=48_000,
    ),
    Recipe(
        name="smaller strings",
        flags={"batch_size": "32", "lr": "4e-3", "augment.concat": "0"},
        shorter=40,
        fits=lambda competition, shorter: competition.is_string and shorter >= 1.25 * 40,
        tested="svhn 40x80: 0.571 after 6,400 images seen (auto.md), 0.735 after 12,000, 63 s of two cores "
        "(benchmarks/results/race.md)",
        least=6_000,
        good=48_000,
    ),
    Recipe(
        name="small grey images, from scratch",
        flags={"backbone": "resnet_mnist", "pretrained": "False"},
        fits=lambda competition, shorter: _is_small(competition, shorter) and competition.channels == 1,
        start="scratch",
        always=True,
        tested="mnist 28x28: 0.994 after ten epochs, 6 minutes of one core (benchmarks/results/reference_nets.md)",
        good=300_000,
        max_epochs=20,
    ),
    Recipe(
        name="mixing, full size",
        flags=MIXING,
        fits=_is_large(128),
        tested="food11 at 160x160: 0.722 with lite2 after 199,000 images seen, mean of four folds "
        "(benchmarks/results/score.md)",
        least=120_000,
        good=240_000,
        max_epochs=40,
    ),
    Recipe(
        name="mixing, 128 pixels",
        flags=MIXING,
        shorter=128,
        fits=_is_large(96),
        tested="food11: 0.692 with lite2 after 124,000 images seen, mean of three folds (benchmarks/results/score.md), "
        "0.734 with lite0 after 369,000 (benchmarks/results/auto.md)",
        least=120_000,
        good=240_000,
        max_epochs=40,
    ),
    Recipe(
        name="mixing, 96 pixels",
        flags=MIXING,
        shorter=96,
        fits=lambda competition, shorter: not competition.is_string,
        tested="food11: 0.611 after 79,000 images seen, 0.651 after 158,000 (benchmarks/results/auto.md)",
        least=60_000,
        good=200_000,
        max_epochs=40,
    ),
    Recipe(
        name="64 pixels",
        shorter=64,
        fits=lambda competition, shorter: not competition.is_string,
        tested="food11: 0.478 after 20,000 images seen, 0.547 after 39,000, 0.570 after 79,000 "
        "(benchmarks/results/food11.md)",
        least=15_000,
        good=80_000,
        max_epochs=12,
    ),
    Recipe(
        name="short strings, from scratch",
        flags={"backbone": "string_cnn", "pretrained": "False"},
        fits=_is_string,
        start="scratch",
        tested="demo 32x96: 0.936 out of fold after 3.7 minutes of two cores (benchmarks/results/demo.md)",
        good=40_000,
        max_epochs=40,
    ),
    Recipe(
        name="small images, from scratch",
        flags={"backbone": "vgg_cifar", "pretrained": "False"},
        fits=_is_small,
        start="scratch",
        tested="cifar10 32x32: 0.869 after 48 epochs, 68 minutes of one core (benchmarks/results/reference_nets.md)",
        good=400_000,
        max_epochs=48,
    ),
    Recipe(
        name="photos, from scratch, long",
        flags={
            "backbone": "resnet9",
            "pretrained": "False",
            "optimizer": "sgd",
            "lr": "0.4",
            "batch_size": "512",
            "weight_decay": "5e-4",
            "dropout": "0",
            "ema": "0.99",
            "augment.erase": "0.2",
            "mixup": "0.2",
            "cutmix": "1.0",
            "augment.zoom": "0.3",
            "label_smoothing": "0.1",
        },  # fmt: skip
        fits=_is_photo,
        start="scratch",
        shorter=64,
        tested="food11 64x64: 0.656 after 1,100,000 images seen, mean of four folds (benchmarks/results/score.md)",
        least=600_000,
        good=1_100_000,
        max_epochs=110,
    ),
    Recipe(
        name="photos, from scratch",
        flags={"backbone": "food_cnn", "pretrained": "False"},
        fits=_is_photo,
        start="scratch",
        shorter=32,
        tested="food11 at 32x32: 0.437 after 12 epochs, 16 minutes of one core (benchmarks/results/reference_nets.md)",
        good=120_000,
        max_epochs=60,
    ),
)


def recipes_for(competition: Competition, shorter: int, start: Start) -> list[Recipe]:
    """Return the recipes that fit a cache with a shorter side of so many pixels, the best first."""
    able = [one for one in RECIPES if one.always or one.start == start]
    return [one for one in able if one.fits(competition, shorter)]
