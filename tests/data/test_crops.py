"""crops.csv is read strictly, and prepare keeps the part of each image that it names."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.core.errors import InputError
from src.data.crops import cut, read_crops, widened
from src.data.images import decode_image, resize
from src.training.served import boxes_of
from tests.conftest import TRAIN
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import prepared_at

HEADER = "image_path,left,top,right,bottom\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_path,left,top,width,height\n", "line 1: the columns are"),
        (HEADER + "a.png,0,0,1\n", "line 2: 4 cells where the header has 5"),
        (HEADER + "a.png,0,0,1,1\na.png,0,0,1,1\n", "line 3: 'a.png' appears twice"),
        (HEADER + "a.png,0,0,one,1\n", "line 2: 0, 0, one, 1 are not four numbers"),
        (HEADER + "a.png,0.5,0,0.5,1\n", "line 2: .* is not a valid crop"),
        (HEADER + "a.png,0,-0.1,1,1\n", "line 2: .* is not a valid crop"),
        (HEADER + "a.png,0,0,nan,1\n", "line 2: .* is not a valid crop"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "crops.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_crops(file)
    with pytest.raises(InputError, match="no such file"):
        read_crops(tmp_path / "none.csv")


def test_a_part_is_cut_to_whole_pixels_and_is_never_empty() -> None:
    image = np.arange(40 * 20).reshape(40, 20, 1)
    np.testing.assert_array_equal(cut(image, (0.25, 0.5, 0.76, 1.0)), image[20:, 5:16])
    assert cut(image, (0.99, 0.999, 1.0, 1.0)).shape == (1, 1, 1)
    assert cut(image, None) is image


def test_boxes_are_widened_within_their_image() -> None:
    found = widened(
        np.array([[0.4, 0.2, 0.6, 0.4], [0.0, 0.0, 0.5, 1.0], [0.8, 0.5, 0.7, 0.4], [1.2, 1.2, 1.3, 1.3]]), 0.5
    )
    np.testing.assert_allclose(found[:3], [[0.3, 0.1, 0.7, 0.5], [0, 0, 0.75, 1], [0.65, 0.35, 0.85, 0.55]])
    assert (found[:, 2:] - found[:, :2] >= 0.0099).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_prepare_keeps_the_named_part_of_each_image(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    file = tmp_path / "crops.csv"
    file.write_text(HEADER + "mchar_train/000000.png,0.25,0.1,0.75,0.9\nmchar_test_a/000001.png,0,0,0.5,1\n")
    flags = ("--competition", "svhn", "--num-folds", 2)
    assert podium("prepare", *flags).code == 0
    whole = tables(tmp_path)
    ended = podium("prepare", *flags, "--crops", file)
    assert ended.code == 0
    assert "train: 1 of 18 images are cropped" in ended.out
    assert "test: 1 of 5 images are cropped" in ended.out
    assert "decoded" not in podium("prepare", *flags, "--crops", file).out
    cropped = tables(tmp_path)
    for split, name, part in (("train", "000000", (0.25, 0.1, 0.75, 0.9)), ("test_a", "000001", (0, 0, 0.5, 1))):
        image = decode_image((tmp_path / f"input/svhn/mchar_{split}/{name}.png").read_bytes())
        key = split.removesuffix("_a")
        differ = np.flatnonzero((whole[key] != cropped[key]).any(axis=(1, 2, 3)))
        assert len(differ) == 1
        np.testing.assert_array_equal(
            cropped[key][differ[0]], resize(np.ascontiguousarray(cut(image, part)), (64, 128))
        )
    file.write_text(HEADER)
    again = podium("prepare", *flags, "--crops", file)
    assert "decoded" in again.out  # the file is another one


def tables(folder: Path) -> dict[str, np.ndarray]:
    """Return the images of the newest train and test caches."""
    found = {}
    for split in ("train", "test"):
        newest = max((folder / "runs/svhn/cache").glob(f"{split}_*.npy"), key=lambda path: path.stat().st_mtime_ns)
        found[split] = np.load(newest)
    return found


def test_large_images_are_cut_at_full_resolution(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    path = tmp_path / "input/svhn/mchar_train/000003.png"
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:164, 200:328] = np.random.default_rng(0).integers(0, 256, (64, 128, 3))
    cv2.imwrite(str(path), image[..., ::-1])
    file = tmp_path / "crops.csv"
    file.write_text(HEADER + "mchar_train/000003.png,0.5,0.25,0.82,0.41\n")
    assert podium("prepare", "--competition", "svhn", "--num-folds", 2, "--crops", file).code == 0
    kept = tables(tmp_path)["train"]
    assert (kept == image[100:164, 200:328]).all(axis=(1, 2, 3)).any()


def test_boxes_move_with_the_crop(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()  # the first image, 40x30, has a digit of 4x9 pixels at 1, 1
    file = tmp_path / "crops.csv"
    file.write_text(HEADER + "mchar_train/000000.png,0.025,0,0.525,0.5\n")
    assert podium("prepare", "--competition", "svhn", "--num-folds", 2, "--crops", file).code == 0
    prepared = prepared_at(tmp_path / "runs/svhn")
    cache = prepared.cache("train")
    boxes = boxes_of("--augment.recombine", prepared, cache)
    (row,) = cache.rows_of(["mchar_train/000000.png"])
    wanted = [0, 1 / 15 * 64, 4 / 20 * 128, 10 / 15 * 64]  # the crop has 20x15 pixels from 1, 0
    np.testing.assert_allclose(boxes[row, 0], wanted, atol=1e-6)
    (other,) = cache.rows_of(["mchar_train/000006.png"])  # whole
    np.testing.assert_allclose(boxes[other, 0], [1 / 40 * 128, 1 / 30 * 64, 5 / 40 * 128, 10 / 30 * 64], atol=1e-6)
    trained = podium("train", "--competition", "svhn", *TRAIN, "--augment.recombine", 0.5)
    assert trained.code == 0, trained.err
    assert "variants of " in trained.out
