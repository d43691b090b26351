"""Every recipe of benchmarks/reference_rows.py is one that src.train would take."""

import pytest
import timm
import tyro

from benchmarks.reference_rows import ROWS
from src.competitions.spec import HeadLayout, load_competition
from src.config import PrepareConfig, TrainConfig
from src.models.build import read_options
from src.models.contract import check_takes, find_backbone
from src.training.setup import check_flags


@pytest.mark.parametrize("way", ["published", "ours"])
@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_is_made_of_flags_that_can_be(name: str, way: str) -> None:
    row = ROWS[name]
    tyro.cli(PrepareConfig, args=["--competition", row.competition, *row.prepare.split()])
    config = tyro.cli(TrainConfig, args=["--competition", row.competition, *row.flags(way)])
    check_flags(config, load_competition(row.competition))
    assert find_backbone(row.backbone) == row.backbone
    options = read_options(config.backbone_options)
    if config.progressive_resize < 1:  # the net must take the first size too
        competition = load_competition(row.competition)
        full_size = config.image_size or competition.image_size
        height, width = (round(config.progressive_resize * side) for side in full_size)
        model = timm.create_model(row.backbone, num_classes=10, in_chans=competition.channels, **options)
        check_takes(model, row.backbone, (competition.channels, height, width), HeadLayout((10,)))
    assert config.epochs == row.epochs(way) > 0
    assert options.keys() <= {"batch_norm", "num_points", "positive_start"}
