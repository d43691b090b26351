"""A folder of images."""

from pathlib import Path

import cv2
import pytest

from tests.fixtures import DrawImage


@pytest.fixture
def root(tmp_path: Path, draw_image: DrawImage) -> Path:
    """Return a folder with train/00.png to 09.png."""
    (tmp_path / "input" / "train").mkdir(parents=True)
    for i in range(10):
        cv2.imwrite(str(tmp_path / "input" / "train" / f"{i:02d}.png"), draw_image(i)[..., ::-1])
    return tmp_path / "input"
