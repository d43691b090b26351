"""--synthetic: strings that are drawn, their labels, their fonts, and how a training takes them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from src.competitions.registry import load_competition
from src.competitions.strings import string_competition
from src.core.errors import InputError
from src.data.pixels import JoinedImages
from src.data.synthetic import _coverage, draw_string, load_fonts, synthetic
from src.training.checks import check_flags
from tests.drawing import draw
from tests.helpers import run_at
from tests.world import FLAGS, config_of, data_of, done, refused, run_command

SVHN = load_competition("svhn")
IMAGES = np.stack([draw(seed, (32, 64)) for seed in range(6)])
TARGETS = np.array([[1, 2, 10, 10, 10, 10], [3, 10, 10, 10, 10, 10], [4, 5, 6, 7, 10, 10]] * 2, np.int16)


def drawn(
    count: int = 40, competition: object = SVHN, seed: int = 0, **values: object
) -> tuple[np.ndarray, np.ndarray]:
    given = {"images": IMAGES, "rows": np.arange(6), "targets": TARGETS, "fonts": None, "fit": "stretch"}
    found = synthetic(competition=competition, count=count, seed=seed, **(given | values))  # type: ignore[arg-type]
    return found.images, found.targets


def test_strings_have_the_lengths_of_the_training_images() -> None:
    images, targets = drawn(300)
    assert (images.shape, images.dtype, targets.dtype) == ((300, 32, 64, 3), np.uint8, np.int16)
    lengths = (targets != 10).sum(axis=1)
    assert set(lengths) == {1, 2, 4}
    for row, length in zip(targets, lengths, strict=True):
        assert (row[:length] < 10).all()
        assert (row[length:] == 10).all()
    assert np.bincount(targets[targets < 10]).min() > 40  # all digits, not those of the training images alone


def test_images_depend_on_the_seed_and_their_number_alone() -> None:
    (images, targets), (again, same) = drawn(12), drawn(20)
    np.testing.assert_array_equal(images, again[:12])
    np.testing.assert_array_equal(targets, same[:12])
    assert not np.array_equal(drawn(12, seed=1)[0], images)


def test_only_the_given_rows_are_looked_at() -> None:
    changed = IMAGES.copy()
    changed[3:] = 0
    rows = np.arange(3)
    np.testing.assert_array_equal(
        drawn(rows=rows, targets=TARGETS[:3])[0], drawn(images=changed, rows=rows, targets=TARGETS[:3])[0]
    )


def test_a_string_stands_out_from_its_ground() -> None:
    font = load_fonts(None, "0123456789")[0]
    grey = np.full((32, 64, 3), 128, np.uint8)
    for number in range(20):
        image = draw_string("88", ("", ""), font, grey, np.random.default_rng(number)).astype(float)
        assert np.abs(image - image[:, [0, -1]].mean()).max() > 20  # also if it is blurred
    pictures = {
        draw_string(text, ("", ""), font, grey, np.random.default_rng(0)).tobytes() for text in ("11", "17", "71")
    }
    assert len(pictures) == 3


def test_grey_images_stay_grey() -> None:
    images, _ = drawn(competition=replace(SVHN, channels=1))
    assert (images == images[..., :1]).all()


def test_fixed_lengths_and_letters() -> None:
    plates = string_competition(name="plates", alphabet="ABC", length=3)
    images, targets = drawn(competition=plates, targets=np.zeros((6, 3), np.int16), fit="letterbox")
    assert targets.shape == (40, 3)
    assert set(targets.ravel()) == {0, 1, 2}
    assert images.shape == (40, 32, 64, 3)


def test_fonts_that_lack_a_character_are_not_used(tmp_path: Path) -> None:
    built_in = ImageFont.load_default(20)
    assert isinstance(built_in, ImageFont.FreeTypeFont)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "own.ttf").write_bytes(built_in.font_bytes)
    (tmp_path / "not.ttf").write_text("not a font")
    assert len(load_fonts(tmp_path, "0123456789")) == 1
    with pytest.raises(InputError, match="no font there has all of 0語; give --fonts"):
        load_fonts(tmp_path, "0語")
    with pytest.raises(InputError, match="Pillow's own font does not have all of 0語"):
        load_fonts(None, "0語")
    with pytest.raises(InputError, match=r"--fonts .*none: no folder with fonts"):
        load_fonts(tmp_path / "none", "0")


@pytest.mark.parametrize(
    ("competition", "values", "message"),
    [
        ("food11", {"synthetic": 5}, "food11's answers are not strings"),
        ("svhn", {"synthetic": 5, "cache_url": "http://x"}, "cannot be combined with --cache-url"),
        ("svhn", {"synthetic": -1}, "--synthetic -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, competition: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_flags(config_of(tmp_path, **values), load_competition(competition))


def test_empty_labels_are_not_drawn() -> None:
    targets = TARGETS.copy()
    targets[0] = 10
    assert (drawn(targets=targets)[1][:, 0] < 10).all()
    with pytest.raises(InputError, match="all training labels of svhn are empty"):
        drawn(targets=np.full_like(TARGETS, 10))


def test_a_space_needs_no_font() -> None:
    words = string_competition(name="words", alphabet="AB ", length=2)
    images, targets = drawn(competition=words, targets=np.zeros((6, 2), np.int16))
    assert (targets == 2).all(axis=1).any()  # nothing but spaces is an image too
    assert images.shape == (40, 32, 64, 3)


def test_whole_characters_are_seen() -> None:
    """Nothing is cut off above or below, whatever the font's ascent."""
    for font in load_fonts(None, "0123456789"):
        for number in range(30):
            ink = _coverage("08", ("", ""), font, np.random.default_rng(number))
            assert ink[[0, -1]].max() == 0
            assert ink[:, [0, -1]].max() < 0.9


def test_classes_of_several_characters_are_refused() -> None:
    words = replace(SVHN, heads=tuple(replace(head, classes=("ab", "c", "")) for head in SVHN.heads), pad_class=2)
    with pytest.raises(InputError, match="are not single characters"):
        drawn(competition=words)


def test_a_fold_trains_on_them_and_scores_real_images_alone(world: Path) -> None:
    _, plain = data_of(world)
    run, data = data_of(world, synthetic=7)
    assert len(data.train.rows) == len(plain.train.rows) + 7
    np.testing.assert_array_equal(data.val.rows, plain.val.rows)
    images = data.train.images
    assert isinstance(images, JoinedImages)
    np.testing.assert_array_equal(images.first[plain.train.rows], plain.train.images[plain.train.rows])
    assert len(np.unique(data.train.numbers_of(data.train.rows))) == len(data.train.rows)  # each draws for itself
    _, both = data_of(world, synthetic=7, pseudo_labels=("baseline",), pseudo_confidence=0.0)
    assert len(both.train.rows) == len(plain.train.rows) + 3 + 7
    assert len(run.prepared.labels) == len(plain.train.rows) + len(plain.val.rows)


def test_a_run_needs_the_fonts_that_it_began_with(world: Path, tmp_path: Path) -> None:
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    built_in = ImageFont.load_default(20)
    assert isinstance(built_in, ImageFont.FreeTypeFont)
    (fonts / "own.ttf").write_bytes(built_in.font_bytes)
    flags = (*FLAGS, "--run-name", "drawn", "--synthetic", 6, "--fonts", fonts)
    assert "synthetic: 6 strings drawn with 1 font" in done(world, "train", *flags).out
    record = run_at(world / "runs/svhn/drawn")
    assert f" --fonts {fonts}" in record.train_command(0)
    (world / "runs/svhn/drawn/fold0/oof.npz").unlink()
    done(world, "train", *flags)
    (fonts / "other.ttf").write_bytes(built_in.font_bytes)
    refused(run_command(world, "train", *flags), "was started with other settings (fonts: fonts ")
    shutil.rmtree(fonts)
    refused(run_command(world, "train", *flags), "no folder with fonts")
