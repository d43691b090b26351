"""Validation and prediction see the same pixels.

Every labelled image is also copied into the test set. For a fold's val images, predict must then give that fold's
out-of-fold probabilities.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures import Podium

BACKBONES = {"svhn": "string_cnn", "food11": "test_resnet"}


def copy_into_test(competition: str, folder: Path) -> dict[str, str]:
    """Copy all labelled images into the test set; return the copy's image path by the original's."""
    copies: dict[str, str] = {}
    for source in ("mchar_train", "mchar_val") if competition == "svhn" else ("training", "validation"):
        for number, path in enumerate(sorted((folder / source).iterdir())):
            name = f"{source}_{path.name}" if competition == "svhn" else f"{len(copies) + 500:04d}.jpg"
            test_folder = "mchar_test_a" if competition == "svhn" else "testing"
            shutil.copyfile(path, folder / test_folder / name)
            copies[f"{source}/{path.name}"] = f"{test_folder}/{name}"
            assert number < 100
    if competition == "svhn":
        with (folder / "mchar_sample_submit_A.csv").open("a", newline="") as stream:
            stream.writelines(f"{path.split('/')[1]},0\r\n" for path in copies.values())
    return copies


@pytest.mark.parametrize(
    ("image_size", "fit"),
    [(None, "stretch"), ((32, 48), "center-crop"), ((56, 72), "letterbox")],
    ids=["cache size", "smaller, center crop", "larger, letterbox"],
)
@pytest.mark.parametrize("competition", ["svhn", "food11"])
def test_predict_gives_the_out_of_fold_probabilities_for_the_same_images(
    competition: str,
    image_size: tuple[int, int] | None,
    fit: str,
    request: pytest.FixtureRequest,
    podium: Podium,
    tmp_path: Path,
) -> None:
    folder: Path = request.getfixturevalue(competition)()
    copies = copy_into_test(competition, folder)
    common = ("--competition", competition)
    assert podium("prepare", *common, "--num-folds", 2, "--image-size", 48, 64, "--resize", fit).code == 0
    flags = ("--backbone", BACKBONES[competition], "--no-pretrained", "--epochs", 1, "--batch-size", 4, "--lr", 0.03,
             "--ema", 0)  # fmt: skip
    size = ("--image-size", *image_size) if image_size else ()
    assert podium("train", *common, *flags, *size, "--fold", 0).code == 0
    with np.load(tmp_path / "runs" / competition / "baseline" / "fold0" / "oof.npz") as oof:
        for key, tta in (("probabilities", "--no-tta"), ("probabilities_tta", "--tta")):
            assert podium("predict", *common, tta, "--name", key, "--batch-size", 3).code == 0
            with np.load(tmp_path / "submissions" / competition / f"{key}.npz") as predicted:
                rows = dict(zip(predicted["image_path"].tolist(), predicted["probabilities"], strict=True))
            found = np.stack([rows[copies[path]] for path in oof["image_path"].tolist()])
            np.testing.assert_allclose(found, oof[key], atol=1e-5)
        assert oof["probabilities"].std(axis=0).max() > 3e-4  # the images matter
        assert abs(oof["probabilities_tta"] - oof["probabilities"]).max() > 1e-4
