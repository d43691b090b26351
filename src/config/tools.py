"""Flags of doctor, summary, crops and make_demo."""

from dataclasses import dataclass
from pathlib import Path

from src.config.paths import Paths, PixelPaths


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(PixelPaths):
    """What is about to be trained."""

    backbone: str = "tf_efficientnet_lite0"
    """Whose checkpoints need room on the disk."""
    num_folds: int | None = None
    """How many folds' checkpoints; default: those of the newest snapshot, or 5."""
    image_size: tuple[int, int] | None = None
    """Height and width of the cache; default: the competition's."""
    deep: bool = False
    """Also read every byte that was written for the competition, and name what is damaged, edited or mixed up."""


@dataclass(frozen=True, kw_only=True)
class SummaryConfig(Paths):
    """What a network costs."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, one under src/models/, or the path of a .py file of your own."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False."""
    num_outputs: int | None = None
    """Classes of all heads together; default: the competition's."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; default: the competition's."""


@dataclass(frozen=True, kw_only=True)
class CropsConfig(Paths):
    """Which run's boxes are written, and where."""

    competition: str = "svhn:boxes"
    """The competition of the boxes, NAME:boxes."""
    run_name: str = "baseline"
    """The run that predicted them."""
    margin: float = 0.15
    """Share of a box's width and height that is added on each side."""
    out: Path | None = None
    """The file; default: runs/<competition>/<run>/crops.csv."""


@dataclass(frozen=True, kw_only=True)
class MakeDemoConfig:
    """Numbers of images."""

    input_dir: Path = Path("input")
    """Where demo/ is written."""
    num_train: int = 3000
    """Training images."""
    num_val: int = 600
    """Images of the organiser's validation set."""
    num_test: int = 800
    """Test images."""
