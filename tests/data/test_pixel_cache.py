"""The cache of images that come as raw pixels, and the processes that decode."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.core.reading import InputFiles
from src.data.cache import ImageCache, build_cache, open_cache
from tests.data.test_cache import build, touch
from tests.fixtures import DrawImage
from tests.helpers import read_image


def build_pixels(
    root: Path, folder: Path, images: np.ndarray, image_size: tuple[int, int] = (28, 28)
) -> tuple[bool, ImageCache]:
    """Build the cache of raw pixels, as if from root/pixels, last image first; return whether it was built, and it."""
    (root / "pixels").open("a").close()
    files = InputFiles(root)
    paths = files.add_pixels("raw", images, files.find("pixels"))
    cache, built = build_cache(folder, "train", paths[::-1], files, image_size)
    return built, open_cache(folder, cache.images.file.stem)


@pytest.mark.parametrize("grey", [False, True])
def test_raw_pixels_are_cached_unchanged_and_duplicates_recognised(
    root: Path, tmp_path: Path, draw_image: DrawImage, grey: bool
) -> None:
    images = np.stack([draw_image(i, (28, 28)) for i in (0, 1, 2, 1)])
    images = images[..., 0] if grey else images
    built, cache = build_pixels(root, tmp_path / "prepared", images)
    assert built
    assert cache.image_paths == ["raw/00003", "raw/00002", "raw/00001", "raw/00000"]
    assert cache.images.shape == (4, 28, 28, 3)
    assert (cache.images[::-1] == (images[..., None] if grey else images)).all()
    assert not any(reading.problem for reading in cache.readings)
    pixels = [reading.pixels for reading in cache.readings]
    assert pixels[0] == pixels[2]  # duplicates
    assert len(set(pixels)) == 3


def test_raw_pixels_are_resized_like_decoded_images(root: Path, tmp_path: Path) -> None:
    image = read_image(root / "train" / "04.png")[..., ::-1]
    _, decoded = build(root, tmp_path / "decoded", image_size=(20, 24))
    _, raw = build_pixels(root, tmp_path / "raw", image[None], (20, 24))
    assert (raw.images[0] == decoded.images[4]).all()
    assert raw.readings[0] == decoded.readings[4]


def test_raw_pixels_are_rewritten_only_if_they_or_the_size_changed(
    root: Path, tmp_path: Path, draw_image: DrawImage
) -> None:
    images = np.stack([draw_image(i, (28, 28)) for i in range(3)])
    assert build_pixels(root, tmp_path / "prepared", images)[0]
    assert not build_pixels(root, tmp_path / "prepared", images)[0]
    touch(root / "pixels")
    assert not build_pixels(root, tmp_path / "prepared", images)[0]
    assert build_pixels(root, tmp_path / "prepared", 255 - images)[0]
    assert build_pixels(root, tmp_path / "prepared", images[:2])[0]
    assert build_pixels(root, tmp_path / "prepared", images[:2], (14, 14))[0]
    assert not build_pixels(root, tmp_path / "prepared", images[:2], (14, 14))[0]


CHILD = """
import os, time
from src.core.signals import end_with_parent
end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_decoding_process_ends_if_its_parent_is_killed() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.1)
    parent.stdout.close()
    assert not is_running(child)
