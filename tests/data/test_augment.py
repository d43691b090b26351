"""Augmentation depends only on (seed, epoch, image), keeps the label, and can be switched off."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from src.config import NO_AUGMENT, Augment
from src.data.augment import augment_batch, warp
from src.data.augmentations import AUGMENTATIONS, NUM_DRAWS, PIXEL_CHANGES, draw_params
from src.data.keyed import keyed_uniforms
from src.data.tta import tta_views, warp_batch
from tests.fixtures import DrawImage

SIZE = (32, 48)
STRONG = Augment(rotate=20, stretch=0.2, shear=10, erase=0.3)


@pytest.fixture
def image(draw_image: DrawImage) -> np.ndarray:
    return draw_image(5, SIZE)


def augmented(images: np.ndarray, index: list[int], policy: Augment, epoch: int = 0, seed: int = 0) -> np.ndarray:
    params = draw_params(policy, np.array(index), images.shape[1:3], seed=seed, epoch=epoch)
    return augment_batch(images, params, False)


def repeated(image: np.ndarray, count: int) -> np.ndarray:
    return np.repeat(image[None], count, axis=0)


def test_every_sample_of_every_epoch_is_augmented_differently(image: np.ndarray) -> None:
    seen = {
        changed.tobytes()
        for epoch in range(4)
        for changed in augmented(repeated(image, 32), list(range(32)), STRONG, epoch)
    }
    assert len(seen) == 128


def test_augmentation_does_not_depend_on_the_batch(image: np.ndarray) -> None:
    policy = replace(STRONG, effects=0.5)
    together = augmented(repeated(image, 20), list(range(20)), policy, epoch=3)
    for start, stop in ((0, 1), (1, 7), (7, 20)):
        part = augmented(repeated(image, stop - start), list(range(start, stop)), policy, epoch=3)
        assert (part == together[start:stop]).all()
    backwards = augmented(repeated(image, 20), list(range(20))[::-1], policy, epoch=3)
    assert (backwards[::-1] == together).all()
    assert (augmented(repeated(image, 20), list(range(20)), policy, epoch=3, seed=1) != together).any()


def test_effects_vary_between_images(image: np.ndarray) -> None:
    policy = replace(NO_AUGMENT, effects=1.0)
    changed = augmented(repeated(image, 40), list(range(40)), policy)
    assert (changed != image).any(axis=(1, 2, 3)).all()
    assert len({one.tobytes() for one in changed}) > 20  # several blurs have few sizes


def test_without_augmentation_images_are_unchanged(image: np.ndarray) -> None:
    assert (augmented(repeated(image, 8), list(range(8)), NO_AUGMENT) == image).all()


def test_the_input_images_are_not_modified(image: np.ndarray) -> None:
    images = repeated(image, 4)
    augmented(images, list(range(4)), STRONG)
    assert (images == image).all()


@pytest.mark.parametrize(
    "strength",
    [{"rotate": 10}, {"zoom": 0.2}, {"stretch": 0.2}, {"shift": 0.1}, {"shear": 10}, {"brightness": 0.2}]
    + [{"contrast": 0.2}, {"saturation": 0.5}, {"tint": 0.1}, {"invert": 1}, {"hflip": 1}, {"erase": 1}],
)
def test_each_strength_alone_changes_the_image(image: np.ndarray, strength: dict[str, float]) -> None:
    policy = replace(NO_AUGMENT, **strength)
    assert (augmented(repeated(image, 4), list(range(4)), policy) != image).any(axis=(1, 2, 3)).all()


def correlation(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(image.ravel(), other.ravel())[0, 1])


def test_a_digit_is_never_flipped_if_hflip_is_0() -> None:
    """The letter F differs from its horizontal flip, its vertical flip and its rotation by 180 degrees."""
    letter = np.zeros((32, 32, 3), np.uint8)
    letter[6:26, 8:12] = letter[6:10, 8:24] = letter[14:18, 8:19] = 255
    policy = Augment(brightness=0, contrast=0, saturation=0, tint=0, hflip=0.0, shift=0, zoom=0)
    for changed in augmented(repeated(letter, 300), list(range(300)), policy):
        assert correlation(changed, letter) > 0.6
        assert correlation(changed, letter) > correlation(changed, letter[:, ::-1]) + 0.15
    shifted = augmented(repeated(letter, 300), list(range(300)), Augment(hflip=0.0))
    grey = shifted.mean(axis=(1, 3))  # the stem, the brightest column, stays left of the letter's middle
    stem, middle = grey.argmax(axis=1), (grey * np.arange(32)).sum(axis=1) / grey.sum(axis=1)
    assert (stem < middle + 3).mean() > 0.95


def test_hflip_1_flips_every_image_and_one_half_about_half(image: np.ndarray) -> None:
    always = augmented(repeated(image, 4), list(range(4)), replace(NO_AUGMENT, hflip=1.0))
    assert (always == image[:, ::-1]).all()
    half = augmented(repeated(image, 400), list(range(400)), replace(NO_AUGMENT, hflip=0.5))
    flipped = (half == image[:, ::-1]).all(axis=(1, 2, 3))
    assert 150 < flipped.sum() < 250
    assert (half[~flipped] == image).all()


def flipped(image: np.ndarray, index: list[int], epoch: int, seed: int = 0, hflip: float = 0.5) -> np.ndarray:
    """Return whether each copy of the image is flipped, (B,) bool."""
    changed = augmented(repeated(image, len(index)), index, replace(NO_AUGMENT, hflip=hflip), epoch, seed)
    return (changed == image[:, ::-1]).all(axis=(1, 2, 3))


def test_hflip_one_half_flips_each_image_every_second_epoch(image: np.ndarray) -> None:
    index = list(range(400))
    epochs = [flipped(image, index, epoch) for epoch in range(6)]
    for even, odd in ((0, 1), (2, 3), (0, 5)):
        assert (epochs[even] ^ epochs[odd]).all()  # exactly one of the two
    assert 160 < epochs[0].sum() < 240
    assert (flipped(image, index[::-1], 0)[::-1] == epochs[0]).all()
    others = flipped(image, index, 0, seed=1)
    assert 140 < (others == epochs[0]).sum() < 260  # another seed starts with a different half


def test_other_probabilities_are_drawn_in_each_epoch(image: np.ndarray) -> None:
    index = list(range(400))
    first, second = (flipped(image, index, epoch, hflip=0.3) for epoch in (0, 1))
    assert 80 < first.sum() < 160
    assert 10 < (first & second).sum() < 70
    assert (~first & ~second).sum() > 140


@pytest.mark.parametrize("hflip_ok", [False, True])
def test_the_border_is_reflected_only_if_a_flip_keeps_the_label(image: np.ndarray, hflip_ok: bool) -> None:
    out = np.empty_like(image)
    warp(image, np.array([[1.0, 0, -6], [0, 1, 0]]), hflip_ok, out)  # shifted 6 pixels to the right
    assert (out[:, 6:] == image[:, :-6]).all()
    beyond = image[:, 6:0:-1] if hflip_ok else image[:, :1].repeat(6, axis=1)
    assert (out[:, :6] == beyond).all()


def test_invert_gives_the_negative_and_erase_covers_a_part(image: np.ndarray) -> None:
    negative = augmented(image[None], [0], replace(NO_AUGMENT, invert=1.0))[0]
    assert (negative == 255 - image).all()
    erased = augmented(repeated(image, 50), list(range(50)), replace(NO_AUGMENT, erase=1.0))
    share = (erased != image).any(axis=3).mean(axis=(1, 2))
    assert ((share > 0.005) & (share < 0.3)).all()
    assert share.std() > 0.02


def test_the_original_is_the_first_view_and_all_views_differ() -> None:
    for hflip_ok, count in ((False, 5), (True, 10)):
        views = tta_views(hflip_ok, SIZE)
        assert next(iter(views)) == "original"
        assert len({matrix.tobytes() for matrix in views.values()}) == len(views) == count
        assert np.allclose(views["original"], [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_views_are_flipped_only_if_a_flip_keeps_the_label(image: np.ndarray) -> None:
    assert all(np.linalg.det(matrix[:, :2]) > 0 for matrix in tta_views(False, SIZE).values())
    views = tta_views(True, SIZE)
    flipped = {name for name, matrix in views.items() if np.linalg.det(matrix[:, :2]) < 0}
    assert flipped == {name for name in views if "flipped" in name}
    assert (warp_batch(image[None], views["original, flipped"], True)[0] == image[:, ::-1]).all()
    assert (warp_batch(image[None], views["original"], True)[0] == image).all()


def test_views_match_their_names() -> None:
    dot = np.zeros((*SIZE, 3), np.uint8)
    dot[14:18, 8:12] = 255

    def center(name: str) -> float:
        shown = warp_batch(dot[None], tta_views(False, SIZE)[name], False)[0, :, :, 0].astype(float)
        return float((shown.sum(axis=0) * np.arange(SIZE[1])).sum() / shown.sum())

    assert center("left") < center("original") < center("right")
    assert center("zoom in") < center("original") < center("zoom out")


def test_keyed_uniforms_are_uniform_and_independent() -> None:
    draws = keyed_uniforms(0, 0, np.arange(20_000), 16)
    assert draws.shape == (20_000, 16)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.stack([np.bincount((column * 20).astype(int), minlength=20) for column in draws.T])
    chi2 = ((counts - 1000) ** 2 / 1000).sum(axis=1)  # 19 degrees of freedom: mean 19, 99.99% below 51
    assert chi2.max() < 51
    assert np.abs(np.corrcoef(draws.T) - np.eye(16)).max() < 0.035
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.035  # neighbouring images
    others = [keyed_uniforms(seed, epoch, np.arange(20_000), 16) for seed, epoch in ((1, 0), (0, 1))]
    for other in [*others, keyed_uniforms(1, 1, np.arange(20_000), 16)]:
        assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < 0.035


def test_keyed_uniforms_do_not_repeat_across_seeds_epochs_and_images() -> None:
    firsts = [keyed_uniforms(s, e, np.arange(500), 1)[:, 0] for s in range(12) for e in range(12)]
    assert len(np.unique(np.concatenate(firsts))) == 12 * 12 * 500


def test_more_draws_start_with_the_same_values() -> None:
    index = np.array([3, 10**9, 5])
    assert (keyed_uniforms(7, 2, index, 32)[:, :16] == keyed_uniforms(7, 2, index, 16)).all()


def test_shift_alone_and_views_move_by_integer_pixels(image: np.ndarray) -> None:
    changed = augmented(repeated(image, 40), list(range(40)), replace(NO_AUGMENT, shift=0.2, hflip=0.5))
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3)}
    assert {tuple(pixel) for pixel in changed.reshape(-1, 3)} <= colours  # no pixel is interpolated
    assert len({one.tobytes() for one in changed}) > 30
    for name, matrix in tta_views(True, SIZE).items():
        if "zoom" not in name:
            seen = warp_batch(image[None], matrix, True)
            assert {tuple(pixel) for pixel in seen.reshape(-1, 3)} <= colours


def test_shift_with_another_change_is_subpixel() -> None:
    policy = replace(NO_AUGMENT, shift=0.2, rotate=1e-9)
    offsets = draw_params(policy, np.arange(40), SIZE, seed=0, epoch=0).matrices[:, :, 2]
    assert (abs(offsets - np.round(offsets)) > 0.05).mean() > 0.5


@pytest.mark.parametrize("policy", [replace(NO_AUGMENT, brightness=0.3), replace(NO_AUGMENT, shift=0.2), STRONG])
def test_skipping_changes_that_do_nothing_changes_no_pixel(image: np.ndarray, policy: Augment) -> None:
    params = draw_params(policy, np.arange(20), SIZE, seed=0, epoch=0)
    found = augment_batch(repeated(image, 20), params, False)
    boxes = params.pixels.get("erase", np.zeros((20, 5), np.int64))
    for changed, matrix, colour, box in zip(found, params.matrices, params.colours, boxes, strict=True):
        expected = np.empty_like(image)
        warp(image, matrix, False, expected)
        expected = cv2.transform(expected, colour)
        top, left, height, width, value = box
        expected[top : top + height, left : left + width] = value
        assert np.array_equal(changed, expected)


def test_a_policy_knows_whether_it_changes_pixels() -> None:
    assert not NO_AUGMENT.changes_pixels()
    assert not replace(NO_AUGMENT, concat=1.0).changes_pixels()
    assert replace(NO_AUGMENT, erase=0.1).changes_pixels()
    assert replace(NO_AUGMENT, hflip=0.5).changes_pixels()


def test_strengths_and_augmentations_match_one_to_one() -> None:
    others = ("concat", "recombine")  # which change labels too: data/concat.py, data/recombine.py
    flags = [item.name for item in fields(Augment) if item.name not in others]
    assert [entry.name for entry in AUGMENTATIONS] == flags
    assert sum(len(entry.draws) for entry in AUGMENTATIONS) == NUM_DRAWS
    assert {"erase", "effects"} <= set(PIXEL_CHANGES)


def test_a_new_augmentation_at_the_end_changes_no_other_draw(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(STRONG, invert=0.3, effects=0.2)
    before = augmented(repeated(image, 12), list(range(12)), policy)
    monkeypatch.setattr("src.data.augmentations.NUM_DRAWS", NUM_DRAWS + 5)
    assert (augmented(repeated(image, 12), list(range(12)), policy) == before).all()


def test_each_entry_has_draws_of_its_own() -> None:
    """Rotation, zoom, shear and shift of the same image are independent."""
    transforms = [
        draw_params(replace(NO_AUGMENT, **{name: 0.2}), np.arange(2000), SIZE, seed=0, epoch=0).matrices
        for name in ("rotate", "zoom", "stretch", "shear")
    ]
    numbers = [matrices[:, 0, 1 if i in (0, 3) else 0] for i, matrices in enumerate(transforms)]
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 0.1


def test_a_random_crop_stays_inside_the_image_and_keeps_its_share() -> None:
    size = (60, 80)
    params = draw_params(replace(NO_AUGMENT, crop=0.2), np.arange(500), size, seed=1, epoch=0)
    # From the corners of the output to those of the crop; half a pixel of the border belongs to the image.
    corners = np.array([[-0.5, -0.5, 1], [79.5, -0.5, 1], [-0.5, 59.5, 1]])
    x, y = np.einsum("bij,kj->ibk", params.matrices, corners)
    assert x.min() >= -0.5 - 1e-9
    assert x.max() <= 79.5 + 1e-9
    assert y.min() >= -0.5 - 1e-9
    assert y.max() <= 59.5 + 1e-9
    areas = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) / (60 * 80)
    assert areas.min() == pytest.approx(0.2, abs=0.02)
    assert 0.5 < areas.mean() < 0.65
    assert (x[:, 0] > 1).mean() > 0.5
