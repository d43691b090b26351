"""src.train accepts every recipe of benchmarks/reference_rows.py."""

import pytest
import timm
import tyro

from benchmarks.reference_rows import ROWS
from src.competitions.layout import HeadLayout
from src.competitions.registry import load_competition
from src.config import PrepareConfig, TrainConfig
from src.models.build import read_options
from src.models.contract import check_takes, find_backbone
from src.training.checks import check_flags


@pytest.mark.parametrize("variant", ["published", "ours"])
@pytest.mark.parametrize("name", ROWS)
def test_every_recipe_has_valid_flags(name: str, variant: str) -> None:
    row = ROWS[name]
    tyro.cli(PrepareConfig, args=["--competition", row.competition, *row.prepare.split()])
    config = tyro.cli(TrainConfig, args=["--competition", row.competition, *row.flags(variant)])
    check_flags(config, load_competition(row.competition))
    assert find_backbone(row.backbone).name == row.backbone
    options = read_options(config.backbone_options)
    if config.progressive_resize < 1:  # the net must accept the first image size too
        competition = load_competition(row.competition)
        full_size = config.image_size or competition.image_size
        height, width = (round(config.progressive_resize * side) for side in full_size)
        model = timm.create_model(row.backbone, num_classes=10, in_chans=competition.channels, **options)
        check_takes(model, row.backbone, (competition.channels, height, width), HeadLayout((10,)))
    assert config.epochs == row.epochs(variant) > 0
    assert options.keys() <= {"batch_norm", "num_points", "positive_start"}
