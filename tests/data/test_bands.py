"""Images of 1 to 16 channels and of 16 bits keep every bit; what does not fit the competition is told in one line."""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from src.competitions.spec import Competition
from src.config import Augment
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data import pixels as checking
from src.data.augment import augment_batch, warp
from src.data.augmentations import draw_params, of_bands
from src.data.bands import decode_bands
from src.data.cache import ImageCache, build_cache, open_cache
from src.data.device import augment_on_device, warp_on_device
from src.data.duplicates import near_duplicates
from src.data.facts import Reading
from src.data.images import Decoding, ImageProblem, fitted
from src.data.levels import levels_of, thumbnails
from src.data.remote import Remote
from src.data.tta import tta_views, warp_batch

SIZE = (24, 32)


def drawn(seed: int, bands: int, dtype: type = np.uint16, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a smooth random image (H, W, bands) that uses the lowest bits."""
    rng = np.random.default_rng(seed)
    most = 4095 if dtype is np.uint16 else 255
    coarse = rng.uniform(0, most, (6, 8, bands))
    planes = [cv2.resize(coarse[..., band], size[::-1], interpolation=cv2.INTER_CUBIC) for band in range(bands)]
    return np.clip(np.stack(planes, axis=2), 0, most).astype(dtype)


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """Encode (H, W), or (H, W, 3 or 4) with red first."""
    swapped = image[..., [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image
    return cv2.imencode(suffix, swapped)[1].tobytes()


def pages(image: np.ndarray) -> bytes:
    return cv2.imencodemulti(".tif", [np.ascontiguousarray(image[..., i]) for i in range(image.shape[2])])[1].tobytes()


def refusal(data: bytes, bands: int, depth: int = 16, **options: int) -> str:
    with pytest.raises(ImageProblem) as problem:
        decode_bands(data, Decoding(bands=bands, depth=depth, **options))  # type: ignore[arg-type]
    return str(problem.value)


def cached(tmp_path: Path, files: dict[str, bytes], how: Decoding, size: tuple[int, int] = SIZE) -> ImageCache:
    """Write files into train/ and build their cache."""
    (tmp_path / "input" / "train").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (tmp_path / "input" / "train" / name).write_bytes(data)
    found = InputFiles(tmp_path / "input", suffixes=frozenset({".npy", ".tif", ".png"}))
    cache, _ = build_cache(tmp_path / "cache", "train", found.images("train"), found, size, how=how)
    return open_cache(tmp_path / "cache", cache.images.file.stem)


def test_a_16_bit_tif_and_png_are_cached_to_the_bit(tmp_path: Path) -> None:
    grey = [drawn(seed, 1) for seed in range(3)]
    files = {f"{i}{suffix}": encoded(grey[i][..., 0], suffix) for i, suffix in enumerate((".tif", ".png", ".tif"))}
    cache = cached(tmp_path, files, Decoding(bands=1, depth=16))
    assert cache.images[:].dtype == np.uint16
    assert (cache.images[:] == np.stack(grey)).all()
    assert (cache.record.bands, cache.record.depth) == (1, 16)
    cache.images.check_all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_five_channels_of_npy_are_cached_to_the_bit_in_any_form(tmp_path: Path, dtype: type) -> None:
    image = drawn(1, 5, dtype)
    forms = [
        npy(image),
        npy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        npy(np.asfortranarray(image)),
        npy(image.astype(image.dtype.newbyteorder(">"))),
        pages(image),
    ]
    files = {f"{i}{'.tif' if i == 4 else '.npy'}": data for i, data in enumerate(forms)}
    cache = cached(tmp_path, files, Decoding(bands=5, depth=8 * np.dtype(dtype).itemsize))
    assert not cache.readings.remarks
    assert all((cache.images[row] == image).all() for row in range(5))


@pytest.mark.parametrize(("bands", "suffix"), [(3, ".png"), (4, ".png"), (3, ".tif"), (4, ".tif")])
def test_colours_come_with_red_first(bands: int, suffix: str) -> None:
    image = drawn(2, bands)
    assert (decode_bands(encoded(image, suffix), Decoding(bands=bands, depth=16)) == image).all()


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"compression": "zlib"}, {"bigtiff": True}])
@pytest.mark.parametrize(
    ("bands", "dtype"), [(2, np.uint16), (3, np.uint16), (4, np.uint8), (4, np.uint16), (13, np.uint16)]
)
def test_tifs_that_opencv_cannot_read_are_read_by_tifffile(bands: int, dtype: type, options: dict[str, Any]) -> None:
    tifffile = pytest.importorskip("tifffile")
    image, stream = drawn(3, bands, dtype), io.BytesIO()
    stored = image.transpose(2, 0, 1) if "planarconfig" in options else image
    tifffile.imwrite(stream, stored, **{"photometric": "minisblack", "planarconfig": "contig", **options})
    how = Decoding(bands=bands, depth=8 * np.dtype(dtype).itemsize)
    assert (decode_bands(stream.getvalue(), how) == image).all()
    assert "truncated" in refusal(stream.getvalue()[:-200], bands, how.depth)


def test_refusals_say_what_the_file_holds() -> None:
    image = drawn(4, 5)
    assert "unfit: float32 numbers, some of them NaN; convert them to uint16" in refusal(
        npy(np.full((8, 9, 5), np.nan, np.float32)), 5
    )
    assert "float64 numbers; convert them to uint16" in refusal(npy(np.zeros((8, 9, 5))), 5)
    assert "int16 numbers; convert" in refusal(npy(image.astype(np.int16)), 5)
    assert "8 bits a channel, the competition has depth=16" in refusal(npy(drawn(4, 5, np.uint8)), 5)
    assert "16 bits a channel, the competition has depth=8" in refusal(npy(image), 5, 8)
    assert "the competition has bands=4" in refusal(npy(image), 4)
    assert "first or last" in refusal(npy(np.zeros((5, 9, 5), np.uint16)), 5)
    assert "object instead of numbers" in refusal(npy(np.array([[None]]), allow_pickle=True), 1)
    assert "1 channels, the competition has bands=2" in refusal(encoded(image[..., 0], ".png"), 2)
    assert "3 channels in the first of" not in refusal(encoded(image[..., :3], ".tif"), 2)
    assert "3 channels, the competition has bands=2" in refusal(encoded(image[..., :3], ".tif"), 2)
    assert "floating-point numbers" in refusal(encoded(image[..., 0].astype(np.float32), ".tif"), 1)


def grey_tif(image: np.ndarray) -> bytes:
    """Return a TIFF whose directory comes before its pixels, so that these may be cut off."""
    height, width = image.shape[:2]
    facts = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 122, 277: 1, 278: height, 279: image.nbytes}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in facts.items())
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + image.tobytes()


def test_a_tif_without_its_last_bytes_is_truncated() -> None:
    data = grey_tif(drawn(5, 1))
    assert (decode_bands(data, Decoding(bands=1, depth=16)) == drawn(5, 1)).all()
    assert "its pixels lie beyond the end" in refusal(data[:-1], 1)


def test_hostile_files_are_told_before_anything_is_allocated() -> None:
    image = drawn(5, 5)
    whole, tif = npy(image), pages(image)
    assert "truncated" in refusal(whole[:-1], 5)
    assert "not an image" in refusal(whole[:20], 5)
    assert "over-large" in refusal(whole, 5, max_pixels=24 * 32 - 1)
    assert "over-large" in refusal(tif, 5, max_pixels=24 * 32 - 1)
    header = npy(np.zeros((1, 1, 5), np.uint16)).replace(b"(1, 1, 5)", b"(9**9, 1)")
    assert "not an image" in refusal(header, 5)
    claims = npy(np.zeros((1, 1, 5), np.uint16)).replace(b"(1, 1, 5), }     ", b"(999999, 49, 5), }")
    assert "truncated" in refusal(claims, 5)
    assert "empty" in refusal(b"", 1)
    for cut in range(8, len(tif), 97):  # whatever is cut off, no other error comes
        try:
            decode_bands(tif[:cut], Decoding(bands=5, depth=16))
        except ImageProblem:
            continue
        assert cut > len(tif) - 97
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoilt = bytearray(tif)
        spoilt[int(rng.integers(4, 8))] = spoilt[-int(rng.integers(1, 400))] = int(rng.integers(256))
        try:
            decode_bands(bytes(spoilt), Decoding(bands=5, depth=16))
        except ImageProblem:
            continue


def test_bands_are_fitted_as_pictures_are() -> None:
    image = drawn(6, 6, np.uint8, (30, 40))
    for size, fit in (((20, 30), "stretch"), ((50, 60), "stretch"), ((24, 24), "letterbox"), ((24, 24), "center-crop")):
        seen = fitted(image, size, fit, 0)  # type: ignore[arg-type]
        for first in (0, 3):
            three = np.ascontiguousarray(image[..., first : first + 3])
            alike = np.abs(seen[..., first : first + 3].astype(int) - fitted(three, size, fit, 0))  # type: ignore[arg-type]
            assert alike.max() <= 1  # opencv rounds three channels in another way
    assert fitted(drawn(6, 1), (48, 64), "stretch").shape == (48, 64, 1)


def test_another_kind_of_cache_is_another_cache(tmp_path: Path) -> None:
    files = {"0.png": encoded(drawn(7, 3, np.uint8), ".png")}
    plain, bands = (cached(tmp_path, files, how) for how in (Decoding(), Decoding(bands=3)))
    assert (plain.images[:] == bands.images[:]).all()
    assert plain.images.file != bands.images.file
    text = plain.images.file.with_suffix(".json").read_text()
    assert '"bands"' not in text
    assert '"depth"' not in text


def test_damage_and_blocks_are_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK", 2 * 24 * 32 * 5 * 2)
    images = [drawn(seed, 5) for seed in range(5)]
    cache = cached(tmp_path, {f"{i}.npy": npy(image) for i, image in enumerate(images)}, Decoding(bands=5, depth=16))
    assert len(cache.record.blocks) == 3
    assert (cache.images.read_block(2) == images[4]).all()
    name = cache.images.file.stem
    remote = Remote(url=f"file://{tmp_path}/cache", folder=tmp_path / "kept", limit=1 << 30)
    there = open_cache(tmp_path / "cache", name, remote=remote)
    assert there.images.nbytes == cache.images.nbytes
    assert (there.images[np.array([3, 1])] == np.stack([images[3], images[1]])).all()
    with open(cache.images.file, "rb+") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x77")
    with pytest.raises(InputError, match="images 4 to 4 differ"):
        open_cache(tmp_path / "cache", name).images[4]


@pytest.mark.parametrize(("bands", "dtype"), [(1, np.uint16), (3, np.uint16), (6, np.uint16), (5, np.uint8)])
def test_random_changes_and_views_match_on_both_paths(bands: int, dtype: type) -> None:
    images = np.stack([drawn(seed, bands, dtype) for seed in range(8)])
    white = levels_of(images).white
    policy = of_bands(Augment(hflip=0.5, erase=0.5, invert=0.2, concat=0))
    params = draw_params(policy, np.arange(8), SIZE, seed=1, epoch=0, white=white)
    ours = augment_batch(images, params, True)
    matrices, colours = (torch.from_numpy(array).float() for array in (params.matrices, params.colours))
    pixels = {name: torch.from_numpy(numbers).float() for name, numbers in params.pixels.items()}
    theirs = augment_on_device(torch.from_numpy(images), matrices, colours, pixels, True)
    assert theirs.numpy().dtype == ours.dtype == dtype
    assert np.abs(theirs.numpy().astype(float) - ours).mean() < 0.002 * white
    assert (ours != images).any(axis=(1, 2, 3)).all()
    for matrix in tta_views(True, SIZE).values():
        seen = warp_on_device(torch.from_numpy(images), matrix, True).numpy().astype(float)
        assert np.abs(seen - warp_batch(images, matrix, True)).mean() < 0.002 * white


@pytest.mark.parametrize("bands", [6, 7])  # opencv takes four at a time, and two of them otherwise than four
def test_every_band_is_warped_alike(bands: int) -> None:
    one, out = drawn(9, 1), np.zeros((*SIZE, bands), np.uint16)
    matrix = np.array([[0.9, 0.1, 1.5], [-0.1, 0.95, 2.0]])
    warp(np.repeat(one, bands, axis=2), matrix, False, out)
    assert (out == out[..., :1]).all()
    assert (out[..., :1] != one).any()


def test_duplicates_are_found_among_bands() -> None:
    images = np.stack([drawn(seed, 6) for seed in range(12)])
    images[7] = np.clip(images[2][:, ::-1].astype(int) + 3, 0, 65535)
    readings = [Reading("", "", f"{row:024x}") for row in range(12)]
    assert near_duplicates(readings, images) == [(2, 7)]


def test_levels_and_thumbnails() -> None:
    images = np.stack([drawn(seed, 6) for seed in range(6)])
    images[3] = 0  # unreadable
    seen, levels = images[[0, 1, 2, 4, 5]], levels_of(images)
    assert np.allclose(levels.mean, seen.mean(axis=(0, 1, 2)) / 65535, atol=1e-6)
    assert np.allclose(levels.std, seen.std(axis=(0, 1, 2)) / 65535, atol=1e-6)
    assert 2000 < levels.white <= 4095
    shown = thumbnails(images)
    assert (shown.shape, shown.dtype) == ((6, *SIZE, 3), np.uint8)
    assert shown[0].max() == 255
    assert thumbnails(shown) is shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bands": 17}, "1 to 16 bands"),
        ({"bands": 2, "depth": 12}, "depth=12"),
        ({"depth": 16}, "depth=16 needs bands"),
        ({"bands": 5, "channels": 1}, "leave channels out"),
    ],
)
def test_a_competition_says_what_can_be_kept(options: dict[str, Any], told: str) -> None:
    facts: dict[str, Any] = {"name": "x", "image_size": SIZE, "hflip_ok": True, "columns": ("id", "label")}
    readers: dict[str, Any] = {"read_train": None, "read_test": None}
    with pytest.raises(InputError, match=told):
        Competition(**facts, **readers, **options)
    assert Competition(**facts, **readers, bands=5, depth=16).channels == 5


@pytest.mark.parametrize("flag", ["saturation", "tint", "effects"])
def test_changes_of_colours_are_refused_if_they_are_asked_for(flag: str) -> None:
    with pytest.raises(InputError, match=f"--augment.{flag} 0.7: is for ordinary pictures"):
        of_bands(Augment(**{flag: 0.7}))
    assert not of_bands(Augment()).saturation
