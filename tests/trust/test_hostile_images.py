"""Truncated, damaged and unusual images are decoded correctly or raise an error with the reason; never partially."""

import io
import resource
import struct
import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.images import ImageProblem, decode_image
from tests.drawing import draw
from tests.trust.conftest import ROOT

FORMATS = (".jpg", ".png", ".webp", ".bmp")
CUTS = 50


def encoded(suffix: str, seed: int = 1) -> bytes:
    return cv2.imencode(suffix, draw(seed, (120, 160))[..., ::-1])[1].tobytes()


def test_truncated_images_are_decoded_fully_or_an_error(figure: Callable[[str], None]) -> None:
    refused, kinds = 0, set()
    for suffix in FORMATS:
        data = encoded(suffix)
        expected = decode_image(data)
        for cut in np.linspace(0, len(data) - 1, CUTS).astype(int):
            try:
                found = decode_image(data[:cut])
            except ImageProblem as problem:
                kinds.add(problem.kind)
                refused += 1
            else:
                assert (found == expected).all(), (suffix, cut, len(data))  # only the padding was cut off
    assert kinds == {"empty", "not an image", "truncated"}
    count = len(FORMATS) * CUTS
    figure(f"truncated images ({', '.join(FORMATS)}): {count} cases, {refused} errors, {count - refused} decoded")


def animated(kind: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(draw(seed, (40, 60))) for seed in (1, 2, 3)]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_decoded(kind: str) -> None:
    found = decode_image(animated(kind)).astype(int)
    assert np.abs(found - draw(1, (40, 60))).mean() < (12 if kind == "GIF" else 0.5)  # 256 colours


def bomb() -> bytes:
    """Return a PNG of about 20 KiB that unpacks to 561 MiB."""
    stream = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def header_of_a_huge_bmp() -> bytes:
    size = struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, *[0] * 6)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + size


def decode_within(mebibytes: int, *files: bytes) -> None:
    """Decode files with at most `mebibytes` MiB more than this process already uses; print the kinds of problems."""
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    limit = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kinds = []
    for data in files:
        try:
            decode_image(data)
        except ImageProblem as problem:
            kinds.append(problem.kind)
    print(*kinds, sep=", ")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory with Linux's RLIMIT_AS")
def test_a_decompression_bomb_does_not_use_much_memory(figure: Callable[[str], None]) -> None:
    names = ["bomb()", "header_of_a_huge_bmp()", *(f"encoded({suffix!r})" for suffix in FORMATS)]
    call = f"from tests.trust.test_hostile_images import *; decode_within(200, {', '.join(names)})"
    # The arguments are evaluated before memory is limited.
    ended = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "over-large, over-large\n"), ended.stderr
    figure(f"a PNG of {len(bomb()) / 1024:.0f} KiB that unpacks to 561 MiB: an error within 200 MiB")


def claims(kind: str, step: int) -> list[bytes]:
    """Return an image with four bytes replaced by a large number, at every `step`-th place near its two ends."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(128, 40, (60, 80, 3))
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(stream, kind)
    data = stream.getvalue()
    places = [*range(0, min(len(data) - 4, 400), step), *range(max(0, len(data) - 300), len(data) - 4, step)]
    numbers = (b"\xff\xff\xff\x00", b"\x00\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
    return [data[:place] + number + data[place + 4 :] for place in places for number in numbers]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory with Linux's RLIMIT_AS")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_no_number_in_a_file_makes_the_decoder_take_much_memory(
    figure: Callable[[str], None], kind: str, step: int
) -> None:
    call = f"from tests.trust.test_hostile_images import *; decode_within(200, *claims({kind!r}, {step}))"
    ended = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-500:]
    figure(f"{len(claims(kind, step))} large numbers written into a {kind}: all decoded or refused within 200 MiB")
