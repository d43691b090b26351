"""The table of tested recipes that auto chooses from. Each says where it was tested and with what result.

What a training needs is counted in images seen, epochs times training images, since one epoch of 40,000 images teaches
what ten epochs of 4,000 do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from src.competitions.spec import Competition

SMALL = 40  # pixels of the shorter side up to which images are those of MNIST and CIFAR


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Flags of train for a kind of competition, and how many images it must see to be worth its time."""

    name: str
    tested: str
    flags: dict[str, str] = field(default_factory=dict)
    shorter: int | None = None  # pixels of the shorter side that the network sees, if the cache has more
    fits: Callable[[Competition], bool] = lambda competition: True
    pretrained: bool = True
    least: int = 0  # images seen below which it is not chosen
    good: int = 0  # images seen from which further folds are worth more than further epochs
    max_epochs: int = 24

    @property
    def is_probe(self) -> bool:
        return "freeze_backbone" in self.flags


def _shorter(competition: Competition) -> int:
    return min(competition.image_size)


def _is_large(competition: Competition, than: int) -> bool:
    """Return whether seeing only so many pixels makes a difference."""
    return _shorter(competition) >= 1.25 * than


def _is_string(competition: Competition) -> bool:
    return competition.is_string


def _is_small(competition: Competition) -> bool:
    return _shorter(competition) <= SMALL and not competition.is_string


PROBE = Recipe(
    name="linear probe",
    flags={"freeze_backbone": "True"},
    tested="svhn 64x128: 0.168 after 21 s; food11 64x64: 0.469 after 59 s (benchmarks/results/race.md)",
)
# From the one preferred if there is time for it to the one that needs least.
RECIPES = (
    Recipe(
        name="fine-tuning",
        tested="svhn 64x128: 0.787 after 18,000 images seen, 0.875 after 36,000, 0.893 after 72,000 "
        "(benchmarks/results/street_view.md)",
        least=20_000,
        good=48_000,
    ),
    Recipe(
        name="fine-tuning, 128 pixels",
        shorter=128,
        fits=lambda competition: _is_large(competition, 128),
        tested="not on photos larger than food11's: as the next one, with four times the pixels "
        "(benchmarks/results/food11.md)",
        least=20_000,
        good=48_000,
    ),
    Recipe(
        name="fine-tuning, 64 pixels",
        shorter=64,
        fits=lambda competition: _is_large(competition, 64) and not competition.is_string,
        tested="food11 64x64: 0.478 after 20,000 images seen, 0.547 after 39,000, 0.570 after 79,000 "
        "(benchmarks/results/food11.md)",
        least=20_000,
        good=48_000,
    ),
    Recipe(
        name="fine-tuning, smaller strings",
        flags={"batch_size": "32", "lr": "4e-3", "augment.concat": "0"},
        shorter=40,
        fits=_is_string,
        tested="svhn 40x80: 0.571 after 6,400 images seen (auto.md), 0.735 after 12,000, 63 s of two cores "
        "(benchmarks/results/race.md)",
        least=6_000,
        good=48_000,
    ),
    Recipe(
        name="from scratch, short strings",
        flags={"backbone": "string_cnn", "pretrained": "False"},
        fits=_is_string,
        pretrained=False,
        tested="demo 32x96: 0.936 out of fold after 3.7 minutes of two cores (benchmarks/results/demo.md)",
        good=40_000,
        max_epochs=40,
    ),
    Recipe(
        name="from scratch, small grey images",
        flags={"backbone": "resnet_mnist", "pretrained": "False"},
        fits=lambda competition: _is_small(competition) and competition.channels == 1,
        pretrained=False,
        tested="mnist 28x28: 0.994 after ten epochs, 6 minutes of one core (benchmarks/results/reference_nets.md)",
        good=300_000,
        max_epochs=20,
    ),
    Recipe(
        name="from scratch, small images",
        flags={"backbone": "vgg_cifar", "pretrained": "False"},
        fits=_is_small,
        pretrained=False,
        tested="cifar10 32x32: 0.862 after 36 epochs, 66 minutes of one core (benchmarks/results/reference_nets.md)",
        good=400_000,
        max_epochs=48,
    ),
    Recipe(
        name="from scratch, photos",
        flags={"backbone": "food_cnn", "pretrained": "False"},
        fits=lambda competition: not _is_small(competition) and not competition.is_string,
        pretrained=False,
        shorter=32,
        tested="food11 at 32x32: 0.437 after 12 epochs, 16 minutes of one core (benchmarks/results/reference_nets.md)",
        good=120_000,
        max_epochs=60,
    ),
)


def recipes_for(competition: Competition, has_weights: bool) -> list[Recipe]:
    """Return the recipes that fit, the preferred one first; without pretrained weights those from scratch."""
    return [one for one in RECIPES if one.pretrained == has_weights and one.fits(competition)]
