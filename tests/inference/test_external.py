"""Predictions of another tool, as they are read."""

import zipfile
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


def test_a_file_without_a_list_of_images_or_of_no_arrays_is_one_line(tmp_path: Path) -> None:
    competition, file = svhn.COMPETITION, tmp_path / "other.npz"
    np.savez(file, image_path=np.array("1.png"), probabilities=np.zeros((1, 66), np.float32))
    with pytest.raises(InputError, match="a row for each image_path"):
        read_external(file, competition)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image_path.npy", "1.png")
        archive.writestr("probabilities.npy", "0.5")
    with pytest.raises(InputError, match="is not a complete .npz file"):
        read_external(file, competition)
