"""Predictions of another tool, as they are read."""

from pathlib import Path

import numpy as np
import pytest

from src.competitions import svhn
from src.core.errors import InputError
from src.inference.external import read_external
from src.inference.quality import likelihood_losses


def test_probabilities_that_rounding_made_negative_are_none(tmp_path: Path) -> None:
    competition = svhn.COMPETITION
    made = np.zeros((1, competition.layout.num_outputs), np.float32)
    for part in competition.layout.split(made):
        part[:, 3], part[:, competition.pad_class] = 1 + 1e-7, -1e-7
    np.savez(tmp_path / "other.npz", image_path=np.array(["1.png"]), probabilities=made)
    found = read_external(tmp_path / "other.npz", competition).probabilities
    assert (found.min(), found.max()) == (0, 1)
    padded = np.full((1, len(competition.heads)), competition.pad_class)
    assert np.isfinite(likelihood_losses(found, padded, competition)).all()
    made[0, 0] = -0.01
    np.savez(tmp_path / "other.npz", image_path=np.array(["1.png"]), probabilities=made)
    with pytest.raises(InputError, match="row 0, 1.png"):
        read_external(tmp_path / "other.npz", competition)
