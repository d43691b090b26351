"""NAME:boxes learns where a string stands; its predictions crop the images of NAME."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.competitions.boxes import around, overlaps, size_of
from src.competitions.registry import load_competition
from src.config import Augment, ServeConfig, TrainConfig
from src.config.augment import NO_AUGMENT
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.runtime import choose_compute
from src.data.augmentations import MOVES
from src.data.device import on_device
from src.exporting.card import _use
from src.exporting.subject import open_subject
from src.serving.answering import open_answerer
from src.training.checks import check_flags
from src.training.loading import make_loader
from src.training.served import Served
from tests.fixtures import MakeFood11, MakeSvhn, Podium

TRAIN = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--epochs", 2)
BOXES = ("--competition", "svhn:boxes")


def test_overlap_is_intersection_over_union() -> None:
    target = np.array([[0, 0, 0.5, 0.5]] * 4)
    answers = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.25], [0.4, 0.2, 0.1, 0.4]])
    competition = load_competition("svhn:boxes")
    np.testing.assert_allclose(overlaps(target, answers, competition), [1, 0, 0.5, 0], atol=1e-12)


def test_the_box_around_a_string_holds_all_its_characters() -> None:
    found = around(np.array([[10, 5, 20, 25], [22, -3, 32, 17.0]]), (50, 100))
    np.testing.assert_allclose(found, [0.1, 0, 0.32, 0.5])


def test_from_boxes_to_a_run_on_crops(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    (tmp_path / "input/svhn/mchar_train/000002.png").write_bytes(b"no image")
    prepared = podium("prepare", *BOXES, "--num-folds", 2)
    assert prepared.code == 0, prepared.err
    assert "train: 17 images" in prepared.out
    labels = pd.read_csv(next((tmp_path / "runs/svhn_boxes/prepared").glob("*/labels.csv")))
    assert list(labels.columns[:5]) == ["image_path", "left", "top", "right", "bottom"]
    first = labels.set_index("image_path").loc["mchar_train/000000.png"]  # one digit, at 1, 1 of 40x30, 4x9 pixels
    np.testing.assert_allclose(first[["left", "top", "right", "bottom"]].astype(float), [1 / 40, 1 / 30, 5 / 40, 1 / 3])
    refused = podium("crops")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert podium("train", *BOXES, *TRAIN).code == 0
    refused = podium("crops")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "predict --competition svhn:boxes" in refused.err
    assert podium("evaluate", *BOXES).code == 0
    answered = podium("predict", *BOXES)
    assert answered.code == 0, answered.err
    answers = tmp_path / "submissions/svhn_boxes/baseline.npz"
    sound = answers.read_bytes()
    answers.write_bytes(sound[:-1] + b"x")
    refused = podium("crops")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "is not the file that its JSON describes" in refused.err
    answers.write_bytes(sound)
    made = podium("crops")
    assert made.code == 0, made.err
    assert "overlap with the true boxes" in made.out
    crops = pd.read_csv(tmp_path / "runs/svhn_boxes/baseline/crops.csv")
    assert len(crops) == 17 + 5
    flags = ("--competition", "svhn", "--num-folds", 2)
    cropped = podium("prepare", *flags, "--crops", "runs/svhn_boxes/baseline/crops.csv")
    assert "train: 17 of 18 images are cropped" in cropped.out
    assert "test: 5 of 5 images are cropped" in cropped.out
    trained = podium("train", "--competition", "svhn", *TRAIN, "--fold", 0)
    assert trained.code == 0
    served = open_answerer(ServeConfig(runs_dir=tmp_path / "runs", input_dir=tmp_path / "input", device="cpu"))
    assert "cut by prepare --crops: send such parts" in served.summary()
    card = "\n".join(_use(open_subject(served.run, None, False).facts(), []))
    assert "The part of an image that `prepare --crops` names" in card


def test_crops_are_not_made_of_a_part_of_the_images(svhn: MakeSvhn, podium: Podium) -> None:
    svhn()
    assert podium("prepare", *BOXES, "--split", "official").code == 0
    assert podium("train", *BOXES, *TRAIN).code == 0
    assert podium("predict", *BOXES).code == 0
    refused = podium("crops")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "answers 6 of 18 training images out of fold" in refused.err


def test_answers_of_other_weights_make_no_crops(svhn: MakeSvhn, podium: Podium) -> None:
    svhn()
    assert podium("prepare", *BOXES, "--num-folds", 2).code == 0
    assert podium("train", *BOXES, *TRAIN).code == 0
    assert podium("predict", *BOXES).code == 0
    assert podium("train", *BOXES, *TRAIN, "--seed", 1, "--restart").code == 0
    refused = podium("crops")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "was answered by other folds or weights than baseline has now" in refused.err


def test_a_photo_that_lies_on_its_side_is_measured_upright(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    path = tmp_path / "input/svhn/mchar_train/000000.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).convert("RGB").save(path, "PNG", exif=exif)
    assert podium("prepare", *BOXES, "--num-folds", 2).code == 0
    labels = pd.read_csv(next((tmp_path / "runs/svhn_boxes/prepared").glob("*/labels.csv"))).set_index("image_path")
    found = labels.loc["mchar_train/000000.png", ["left", "top", "right", "bottom"]].astype(float)
    np.testing.assert_allclose(found, [1 / 30, 1 / 40, 5 / 30, 10 / 40])


def test_a_damaged_zip_member_has_no_box(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(packing="zip")
    file = tmp_path / "input/svhn/mchar_train.zip"
    data = bytearray(file.read_bytes())
    at = data.index(b"000004.png") + 200
    data[at : at + 20] = bytes(20)
    file.write_bytes(data)
    prepared = podium("prepare", *BOXES, "--num-folds", 2)
    assert prepared.code == 0, prepared.err
    assert "train: 17 images" in prepared.out


@pytest.mark.parametrize("flags", [("--resize", "center-crop"), ("--crops", "crops.csv")])
def test_prepare_does_not_cut_the_images_of_boxes(svhn: MakeSvhn, podium: Podium, flags: tuple[str, str]) -> None:
    svhn()
    refused = podium("prepare", *BOXES, *flags)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "would change the labels of svhn_boxes" in refused.err


def test_views_and_mixtures_that_would_change_the_boxes_are_not_made(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path
) -> None:
    svhn()
    assert podium("prepare", *BOXES, "--num-folds", 2).code == 0
    refused = podium("train", *BOXES, *TRAIN, "--cutmix", 1.0)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--cutmix 1.0: would change the labels of svhn_boxes" in refused.err
    trained = podium("train", *BOXES, *TRAIN, "--fold", 0, "--augment.zoom", 0.3)
    assert trained.code == 0
    with np.load(tmp_path / "runs/svhn_boxes/baseline/fold0/oof.npz") as oof:
        np.testing.assert_array_equal(oof["probabilities"], oof["probabilities_tta"])


SIZE = (40, 64)
SIDES = np.array([[8, 6, 40, 30], [20, 10, 60, 36], [0, 0, 64, 40], [30, 18, 50, 26]])  # pixels


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Return black images with a white rectangle, (4, 40, 64, 3), and its sides in shares."""
    images = np.zeros((4, *SIZE, 3), np.uint8)
    for image, (left, top, right, bottom) in zip(images, SIDES, strict=True):
        image[top:bottom, left:right] = 255
    return images, (SIDES / [64, 40, 64, 40]).astype(np.float32)


def bright(image: np.ndarray) -> np.ndarray:
    """Return the sides of what is white, in shares."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / [64, 40, 64, 40]


@pytest.mark.parametrize(
    ("moves", "hflip_ok"),
    [
        ({"shift": 0.1}, False),
        ({"shift": 0.1, "zoom": 0.3, "stretch": 0.2}, False),
        ({"rotate": 12.0, "shear": 10.0}, False),
        ({"crop": 0.5}, False),
        ({"shift": 0.05, "hflip": 0.5}, True),
    ],
)
def test_the_box_follows_when_the_image_moves(moves: dict[str, float], hflip_ok: bool) -> None:
    images, targets = pictures()
    competition = replace(load_competition("svhn:boxes"), hflip_ok=hflip_ok)
    config = TrainConfig(augment=replace(NO_AUGMENT, **moves), batch_size=4)
    compute = choose_compute("cpu", "fp32")
    loader = make_loader(config, competition, compute, Served(images, np.arange(4), targets), SIZE, train=True)
    changed = 0
    for epoch in range(12):
        batch = next(loader.epoch(epoch))
        target = batch["target"].numpy()
        assert target.dtype == np.float32
        for image, box, row in zip(batch["image"].numpy(), target, batch["index"].tolist(), strict=True):
            if row != 2:  # the third fills its image, whose edge is repeated
                np.testing.assert_allclose(box, bright(image), atol=1.6 / 40)
            assert (box >= 0).all()
            assert (box <= 1).all()
            changed += not np.allclose(box, targets[row], atol=1e-3)
    assert changed > 24


def test_the_box_follows_on_a_gpu_too() -> None:
    images, targets = pictures()
    config = TrainConfig(augment=replace(NO_AUGMENT, shift=0.1, zoom=0.2, rotate=8.0), batch_size=4)
    compute = choose_compute("cpu", "fp32")
    loader = make_loader(
        config, load_competition("svhn:boxes"), compute, Served(images, np.arange(4), targets), SIZE, train=True
    )
    one, other = next(loader.epoch(3)), next(on_device(loader, torch.device("cpu"), False).epoch(3))
    torch.testing.assert_close(other["target"], one["target"])
    assert not np.allclose(one["target"].numpy(), targets[one["index"].numpy()], atol=0.01)


def test_a_competition_without_boxes_has_none(food11: MakeFood11, podium: Podium) -> None:
    food11()
    refused = podium("prepare", "--competition", "food11:boxes")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "the labels of food11 have no column boxes" in refused.err
    with pytest.raises(InputError, match="no such competition"):
        load_competition("nothing:boxes")


def test_nothing_moves_unless_a_flag_asks() -> None:
    competition = replace(load_competition("svhn:boxes"), hflip_ok=True)
    images, targets = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 4), np.float32)
    compute, rows = choose_compute("cpu", "fp32"), np.arange(4)
    for augment, asked in ((Augment(), set()), (Augment(zoom=0.3, crop=0.5), {"zoom", "crop"})):
        config = TrainConfig(augment=augment)
        loader = make_loader(config, competition, compute, Served(images, rows, targets), (8, 8), train=True)
        assert loader.policy
        assert {move for move in MOVES if getattr(loader.policy, move)} == asked


def test_nothing_moves_if_labels_cannot_follow() -> None:
    competition = replace(load_competition("svhn:boxes"), hflip_ok=True, follow=None)
    images, targets = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 4), np.float32)
    compute = choose_compute("cpu", "fp32")
    loader = make_loader(TrainConfig(), competition, compute, Served(images, np.arange(4), targets), (8, 8), train=True)
    assert loader.policy
    assert not any(getattr(loader.policy, move) for move in MOVES)
    zoomed = TrainConfig(augment=replace(NO_AUGMENT, zoom=0.3))
    with pytest.raises(InputError, match=r"--augment.zoom 0.3: would change the labels of svhn_boxes"):
        check_flags(zoomed, competition)


def test_the_size_of_a_huge_png_is_read_from_its_header_alone(tmp_path: Path) -> None:
    """Decoding it would take 3.6 GB."""
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "png")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", 60_000, 50_000)  # width and height, of the header
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "huge.png").write_bytes(data)
    files = InputFiles(tmp_path)
    files.locate(["huge.png"])
    location = files.located.get("huge.png")
    assert location
    assert size_of(location) == (50_000, 60_000)


@pytest.mark.parametrize(("kind", "data"), [(7, b"\1\0\0\0"), (2, b"6\0\0\0"), (3, b"\6\0\0\0")])
def test_a_malformed_orientation_is_none(tmp_path: Path, kind: int, data: bytes) -> None:
    stream = io.BytesIO()
    Image.new("L", (4, 3)).save(stream, "jpeg")
    count = {7: 1, 2: 2, 3: 1}[kind]
    tags = b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count) + data + bytes(4)
    exif = b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags
    (tmp_path / "a.jpg").write_bytes(stream.getvalue()[:2] + exif + stream.getvalue()[2:])
    files = InputFiles(tmp_path)
    files.locate(["a.jpg"])
    location = files.located.get("a.jpg")
    assert location
    assert size_of(location) == ((4, 3) if kind == 3 else (3, 4))  # only a number turns the image
