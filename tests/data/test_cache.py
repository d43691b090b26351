"""The cache holds every image once, is rebuilt only if something changed, and reports unreadable images."""

import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data import cache as caching
from src.data import decoding
from src.data.cache import ImageCache, build_cache, open_cache
from src.data.decoding import in_processes
from src.data.images import Decoding, resize
from tests.fixtures import DrawImage
from tests.helpers import read_image

SIZE = (24, 32)


def build(root: Path, folder: Path, **options: Any) -> tuple[bool, ImageCache]:
    """Build the cache of the images in root/train; return whether it was built, and the opened cache."""
    files = InputFiles(root)
    settings: dict[str, Any] = {"image_size": SIZE, **options}
    cache, built = build_cache(folder, "train", files.images("train"), files, **settings)
    return built, open_cache(folder, cache.images.file.stem)


def written(folder: Path) -> dict[str, bytes]:
    """Return the files in a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_cache_holds_rgb_images_in_the_order_of_their_paths(
    root: Path, tmp_path: Path, draw_image: DrawImage
) -> None:
    built, cache = build(root, tmp_path / "prepared")
    assert built
    assert cache.image_paths == [f"train/{i:02d}.png" for i in range(10)]
    assert cache.images[:].dtype == np.uint8
    assert cache.image_size == SIZE
    for i in range(10):
        assert (cache.images[i] == resize(draw_image(i), SIZE)).all()
    assert cache.rows_of(["train/07.png", "train/02.png"]).tolist() == [7, 2]
    with pytest.raises(InputError, match=r"train/x.png is not in the image cache"):
        cache.rows_of(["train/x.png"])


def test_a_second_build_decodes_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(root, tmp_path / "prepared")
    monkeypatch.setattr(decoding, "decode_image", lambda *_: pytest.fail("decoded again"))
    assert not build(root, tmp_path / "prepared")[0]


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def append_byte(path: Path) -> None:
    stamp = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(stamp, stamp))


@pytest.mark.parametrize(
    "change", [touch, append_byte, Path.unlink, lambda path: path.rename(path.with_name("99.png"))]
)
def test_changing_any_file_rebuilds_the_cache(root: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    build(root, tmp_path / "prepared")
    change(root / "train" / "05.png")
    assert build(root, tmp_path / "prepared")[0]
    assert not build(root, tmp_path / "prepared")[0]


@pytest.mark.parametrize(
    "options", [{"image_size": (24, 40)}, {"how": Decoding(1199)}, {"how": Decoding(fit="letterbox")}]
)
def test_changing_the_size_or_pixel_limit_rebuilds_the_cache(
    root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    build(root, tmp_path / "prepared")
    built, cache = build(root, tmp_path / "prepared", **options)
    assert built
    assert cache.image_size == options.get("image_size", SIZE)


@pytest.mark.parametrize("changed", ["POLICY", "cv2"])
def test_changing_the_decoder_rebuilds_the_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    build(root, tmp_path / "prepared")
    if changed == "POLICY":
        monkeypatch.setattr(caching, "POLICY", caching.POLICY + 1)
    else:
        monkeypatch.setattr(cv2, "__version__", "0.0")
    assert build(root, tmp_path / "prepared")[0]


def test_an_interrupted_build_leaves_the_old_cache_or_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = build(root, tmp_path / "prepared")
    pixels = before.images[:].copy()
    touch(root / "train" / "05.png")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(root, tmp_path / "prepared")
    name = before.images.file.stem
    assert (open_cache(tmp_path / "prepared", name).images[:] == pixels).all()
    names = sorted(path.name for path in (tmp_path / "prepared").iterdir())
    assert names == [f"{name}.json", f"{name}.npy", before.facts.file.name]
    with monkeypatch.context() as patch:  # between writing the pixels and the JSON file
        patch.setattr(caching, "write_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(root, tmp_path / "prepared")
    assert build(root, tmp_path / "prepared")[0]


def test_two_processes_write_the_same_bytes_as_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "train" / "03.png").write_bytes(b"")
    assert build(root, tmp_path / "by1")[0]
    monkeypatch.setattr(decoding, "CHUNK", 3)
    monkeypatch.setattr(decoding, "SOLO_SECONDS", 0)
    assert build(root, tmp_path / "by2", engine=partial(in_processes, num_processes=2))[0]
    assert len(written(tmp_path / "by1")) == 3
    assert written(tmp_path / "by1") == written(tmp_path / "by2")


@pytest.mark.parametrize("done", [0, 2])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenProcessPool("killed")])
def test_decoding_continues_in_one_process_if_the_pool_fails(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    done: int,
) -> None:
    class Pool:
        def __init__(self, *_: object, **__: object) -> None:
            if not done:
                raise error

        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def map(self, call: Callable[..., object], *arguments: tuple[object, ...]) -> Iterator[object]:
            yield from itertools.islice(map(call, *arguments), done)
            raise error

    assert build(root, tmp_path / "by1")[0]
    monkeypatch.setattr(decoding, "CHUNK", 3)
    monkeypatch.setattr(decoding, "SOLO_SECONDS", 0)
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", Pool)
    assert build(root, tmp_path / "by2", engine=partial(in_processes, num_processes=2))[0]
    assert len(written(tmp_path / "by1")) == 3
    assert written(tmp_path / "by1") == written(tmp_path / "by2")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("decoding continues in one process")


def test_a_zip_member_larger_than_any_image_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    with zipfile.ZipFile(tmp_path / "input" / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(decoding.MAX_BYTES))
        archive.writestr("2.png", bytes(decoding.MAX_BYTES + 1))
    assert (tmp_path / "input" / "train.zip").stat().st_size < 1 << 20
    readings = build(tmp_path / "input", tmp_path / "prepared")[1].readings
    assert [reading.problem for reading in readings] == ["not an image", "over-large"]


def test_an_unreadable_image_is_black_and_its_reading_has_the_reason(
    root: Path, tmp_path: Path, png_header: Callable[[int, int], bytes]
) -> None:
    good = (root / "train" / "00.png").read_bytes()
    bad = {"01": b"", "02": b"text", "03": good[: len(good) // 2], "04": png_header(60_000, 60_000)}
    for name, data in bad.items():
        (root / "train" / f"{name}.png").write_bytes(data)
    files = InputFiles(root)
    paths = [*files.images("train"), "train/absent.png"]
    cache, _ = build_cache(tmp_path / "prepared", "train", paths, files, SIZE)
    problems = {path: reading.problem for path, reading in zip(paths, cache.readings, strict=True) if reading.problem}
    assert problems == {
        "train/01.png": "empty",
        "train/02.png": "not an image",
        "train/03.png": "truncated",
        "train/04.png": "over-large",
        "train/absent.png": "missing",
    }
    for path in problems:
        assert not cache.images[cache.rows_of([path])].any()
    assert cache.images[0].any()


def test_identical_pixels_are_recognised_across_formats(root: Path, tmp_path: Path) -> None:
    image = read_image(root / "train" / "00.png")
    cv2.imwrite(str(root / "train" / "00.bmp"), image)
    image[0, 0, 0] ^= 1
    cv2.imwrite(str(root / "train" / "00x.png"), image)
    _, cache = build(root, tmp_path / "prepared")
    pixels = dict(zip(cache.image_paths, (reading.pixels for reading in cache.readings), strict=True))
    assert pixels["train/00.bmp"] == pixels["train/00.png"] != pixels["train/00x.png"]


def test_images_of_one_colour_but_different_shapes_differ(root: Path, tmp_path: Path) -> None:
    for name, shape in (("high", (40, 30, 3)), ("wide", (30, 40, 3))):
        cv2.imwrite(str(root / "train" / f"{name}.png"), np.full(shape, 90, np.uint8))
    _, cache = build(root, tmp_path / "prepared")
    assert len({reading.pixels for reading in cache.readings}) == 12


def test_a_missing_or_damaged_cache_is_refused_with_the_command_to_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.json: not there; run python -m src.prepare first"):
        open_cache(tmp_path / "prepared", "train")
    path = build(root, tmp_path / "prepared")[1].images.file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"damaged .*; run python -m src.prepare again"):
        open_cache(tmp_path / "prepared", path.stem)
    path.unlink()
    with pytest.raises(InputError, match=r"\.npy: not there; run python -m src.prepare again"):
        open_cache(tmp_path / "prepared", path.stem)


def test_a_deleted_or_truncated_cache_is_rebuilt(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    built, cache = build(root, folder)
    assert built
    file = cache.images.file
    pixels = file.read_bytes()
    file.unlink()
    assert build(root, folder)[0]
    file.write_bytes(pixels[: len(pixels) // 2])
    assert build(root, folder)[0]
    file.write_bytes(pixels[:-1] + bytes([pixels[-1] ^ 1]))
    assert build(root, folder)[0]
    assert file.read_bytes() == pixels
    assert not build(root, folder)[0]
