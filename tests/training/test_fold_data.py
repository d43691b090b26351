"""What a fold reads: joined by image path, some rows of a table at a time."""

from pathlib import Path

import numpy as np
import pytest

from src.config import TrainConfig
from src.core.runtime import choose_compute
from src.data import prepared as preparing
from src.data import snapshot as snapshots
from src.training.fold_data import open_data
from tests.helpers import run_at, table_at


@pytest.mark.parametrize("rows_at_a_time", [1, 4, 1000])
def test_a_fold_reads_images_and_targets_in_the_tables_order_and_never_a_whole_table(
    world: Path, monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int
) -> None:
    root = world / "runs" / "svhn"
    table = table_at(root, "labels").merge(table_at(root, "folds"), on="image_path")
    assert len(table) > 4
    monkeypatch.setattr(snapshots, "CHUNK", rows_at_a_time)
    monkeypatch.setattr(preparing, "read_table", None)
    run = run_at(root / "baseline")
    assert run.prepared.fold_numbers("all") == [0, 1]
    data = open_data(TrainConfig(), run, 1, choose_compute("cpu", "fp32"), run.open_fold(1))
    held_out = table["fold"] == 1
    for loader, part in ((data.train, table[~held_out]), (data.val, table[held_out])):
        assert run.prepared.cache("train").image_paths.pick(loader.rows) == part["image_path"].tolist()
        assert np.array_equal(loader.targets, part[run.competition.targets])
    assert data.val_paths == table["image_path"][held_out].tolist()
