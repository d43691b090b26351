"""Every image format becomes upright 8-bit RGB, and unreadable images raise an error with the reason."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.images import GREY, ImageProblem, decode_image, fitted, resize
from tests.fixtures import DrawImage


def encode(image: np.ndarray, suffix: str) -> bytes:
    """Encode an RGB image."""
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def problem_kind(data: bytes, **options: int) -> str:
    with pytest.raises(ImageProblem) as problem:
        decode_image(data, **options)
    assert problem.value.detail
    return problem.value.kind


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp", ".tiff"])
def test_common_formats_are_read_as_rgb(draw_image: DrawImage, suffix: str) -> None:
    image = draw_image(1)
    read = decode_image(encode(image, suffix))
    assert read.shape == image.shape
    assert read.dtype == np.uint8
    error = np.abs(read.astype(int) - image).mean()
    assert error < (12 if suffix in (".jpg", ".webp") else 1e-9)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.4, 0.7, 0.95])
def test_a_truncated_image_is_an_error_and_not_half_grey(draw_image: DrawImage, suffix: str, kept: float) -> None:
    data = encode(draw_image(1, (90, 120)), suffix)
    assert problem_kind(data[: int(len(data) * kept)]) == "truncated"


def test_an_empty_file_and_a_text_file_are_errors() -> None:
    assert problem_kind(b"") == "empty"
    assert problem_kind(b"<html>not found</html>") == "not an image"
    assert problem_kind(b"\x89PNG\r\n\x1a\n") == "not an image"


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 6_000), (1, 2**31 - 1)])
def test_an_over_large_image_is_an_error_before_decoding(
    png_header: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert problem_kind(png_header(*size)) == "over-large"


def test_the_pixel_limit_can_be_changed(draw_image: DrawImage) -> None:
    data = encode(draw_image(1, (30, 40)), ".png")
    assert decode_image(data, 1200).shape == (30, 40, 3)
    assert problem_kind(data, max_pixels=1199) == "over-large"


def test_the_limit_of_pixels_may_be_larger_than_pillows(png_header: Callable[[int, int], bytes]) -> None:
    assert problem_kind(png_header(15_000, 15_000), max_pixels=400_000_000) != "over-large"


def test_exif_rotation_is_applied(draw_image: DrawImage) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated: to be turned clockwise
    image = draw_image(1)
    read = decode_image(saved(Image.fromarray(image), "jpeg", exif=exif, quality=95))
    assert read.shape == (40, 30, 3)
    assert np.abs(read.astype(int) - np.rot90(image, -1)).mean() < 12


def test_sixteen_bits_are_scaled_to_eight(draw_image: DrawImage) -> None:
    deep = draw_image(1).astype(np.uint16) * 257
    read = decode_image(cv2.imencode(".png", deep[..., ::-1])[1].tobytes())
    assert np.abs(read.astype(int) - draw_image(1)).max() <= 1


def test_grey_and_palette_images_become_rgb(draw_image: DrawImage) -> None:
    grey = draw_image(1)[..., 0]
    assert (decode_image(encode(grey[..., None].repeat(3, 2), ".png")) == grey[..., None]).all()
    assert (decode_image(saved(Image.fromarray(grey), "png")) == grey[..., None]).all()
    palette = Image.fromarray(draw_image(1)).quantize(16)
    assert (decode_image(saved(palette, "png")) == np.asarray(palette.convert("RGB"))).all()


def test_alpha_is_dropped_and_the_colours_are_kept(draw_image: DrawImage) -> None:
    alpha = np.zeros((30, 40, 1), np.uint8)
    data = saved(Image.fromarray(np.concatenate([draw_image(1), alpha], axis=2)), "png")
    assert (decode_image(data) == draw_image(1)).all()


def test_a_cmyk_jpeg_decodes_to_the_same_colours_as_in_pil(draw_image: DrawImage) -> None:
    data = saved(Image.fromarray(draw_image(1)).convert("CMYK"), "jpeg", quality=95)
    assert np.abs(decode_image(data).astype(int) - draw_image(1)).mean() < 12


def test_images_shrink_by_area_and_enlarge_linearly(draw_image: DrawImage) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blocks = noise.reshape(8, 5, 8, 5, 3).mean(axis=(1, 3))
    assert np.abs(resize(noise, (8, 8)) - blocks).max() <= 1  # every pixel contributes: no moiré
    assert resize(draw_image(1), (60, 50)).shape == (60, 50, 3)
    assert len(np.unique(resize(np.array([[[0] * 3, [255] * 3]], np.uint8), (1, 8)))) > 2  # interpolated, not nearest
    assert (resize(draw_image(1), (30, 40)) == draw_image(1)).all()


@pytest.mark.parametrize("position", [8, 33], ids=["header", "pixels"])
def test_a_png_chunk_that_claims_gigabytes_never_reaches_the_decoder(
    png_header: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """opencv allocates what a chunk claims: 43 bytes took 4.1 GiB."""
    data = bytearray(png_header(1, 1))
    data[position : position + 4] = b"\xff\xff\xff\x00"
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert problem_kind(bytes(data)) in ("truncated", "not an image")


def test_an_error_of_pillows_codecs_is_not_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("Failed to decode AVIF")

    monkeypatch.setattr(Image, "open", failing)
    assert problem_kind(b"anything") == "not an image"


def test_a_letterbox_shows_the_whole_image_between_grey_bars() -> None:
    image = np.full((20, 40, 3), 200, np.uint8)
    out = fitted(image, (32, 32), "letterbox")
    assert (out[8:24] == 200).all()
    assert (out[:8] == GREY).all()
    assert (out[24:] == GREY).all()


def test_a_center_crop_shows_the_middle_undistorted() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 250
    assert (fitted(image, (10, 10), "center-crop") == 250).all()
    assert fitted(image.transpose(1, 0, 2), (10, 20), "center-crop").shape == (10, 20, 3)


@pytest.mark.parametrize("size", [(1, 7), (30, 2), (16, 16)])
@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 5)])
def test_any_shape_fits_any_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    for fit in ("stretch", "letterbox", "center-crop"):
        assert fitted(np.zeros((*shape, 3), np.uint8), size, fit).shape == (*size, 3)


def test_what_shrinks_far_is_averaged_though_the_other_side_grows() -> None:
    strokes = np.full((32, 800, 3), 255, np.uint8)
    strokes[:, ::8] = 0  # one column in eight: a quarter of the width would miss some and hit others
    columns = resize(strokes, (64, 192)).mean(axis=(0, 2))
    assert columns.min() > 180
    assert columns.mean() == pytest.approx(255 * 7 / 8, abs=2)
    turned = resize(np.ascontiguousarray(strokes.transpose(1, 0, 2)), (192, 64))
    np.testing.assert_array_equal(turned, resize(strokes, (64, 192)).transpose(1, 0, 2))


def test_numbers_with_a_sign_are_refused_instead_of_wrapped(tmp_path: Path) -> None:
    """opencv makes white of -120."""
    for kind in (np.int16, np.float32):
        cv2.imwrite(str(tmp_path / "a.tif"), np.full((8, 8), -120, kind))
        assert problem_kind((tmp_path / "a.tif").read_bytes()) == "unfit"
