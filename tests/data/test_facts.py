"""What is known of each image is kept in columns, and read again as it was."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.texts import Texts
from src.core.writing import sha256_of, write_arrays
from src.data import cache as caches
from src.data.cache import build_cache, open_cache
from src.data.facts import Facts, Reading, Readings, Sources, columns_of
from tests.drawing import write_image
from tests.fixtures import DrawImage

READINGS = [
    Reading("", "", "a" * 24),
    Reading("missing", "no such file", ""),
    Reading("", "the last 50% of its bytes are zero", "b" * 24),
    Reading("", "", "a" * 24),
    Reading("truncated", "é: 猫", ""),
]


def test_readings_are_a_sequence_of_reading() -> None:
    readings = Readings.of(READINGS, 5)
    assert list(readings) == READINGS
    assert [readings[row] for row in range(-5, 5)] == READINGS * 2
    assert readings[1:3] == READINGS[1:3]
    assert readings.readable.tolist() == [True, False, True, True, False]
    assert list(readings.pick(np.array([4, 0, 2]))) == [READINGS[row] for row in (4, 0, 2)]
    rows, begins = readings.same_pixels()
    assert rows.tolist() == [0, 3, 2]
    assert begins.tolist() == [True, False, True]
    assert [array.tolist() for array in Readings.of((), 0).same_pixels()] == [[], []]


def test_a_facts_file_gives_back_what_was_written(tmp_path: Path) -> None:
    paths = [f"train/{name}.png" for name in "abé猫e"]
    sources = Sources(np.array([1, -1, 3, 4, 5]), np.array([10, -1, 2**62, -7, 0]))
    for name in ("one", "two"):  # the same bytes, as the file is named by their hash
        write_arrays(tmp_path / name, **columns_of(Texts.of(paths), sources, Readings.of(READINGS, 5)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    facts = Facts(tmp_path / "one", sha256_of(tmp_path / "two"), "prepare")
    (tmp_path / "one").unlink()  # as prepare does once it has written others
    assert facts.image_paths == paths
    assert facts.sources.same(sources).all()
    assert facts.sources.pick(np.array([2, 0])).stamps.tolist() == [2**62, 10]
    assert list(facts.readings) == READINGS


Build = Callable[[], tuple[bool, Path, str]]


@pytest.fixture
def build(tmp_path: Path, draw_image: DrawImage) -> Build:
    """Return a function that makes a cache of three images: whether it was decoded, its facts file, its name."""
    for row in range(3):
        write_image(tmp_path / "input" / "train" / f"{row}.png", draw_image(row))

    def build() -> tuple[bool, Path, str]:
        files = InputFiles(tmp_path / "input")
        paths = files.images("train")
        cache, built = build_cache(tmp_path / "cache", "train", paths, files, (24, 32))
        return built, cache.facts.file, cache.images.file.stem

    return build


@pytest.mark.parametrize("step", ["write_arrays", "write_record"])
def test_a_kill_between_the_files_of_a_cache_leaves_the_old_one(
    tmp_path: Path, build: Build, draw_image: DrawImage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    _, file, name = build()
    write_image(tmp_path / "input" / "train" / "2.png", draw_image(2))  # the same pixels at another time
    with monkeypatch.context() as patch:
        patch.setattr(caches, step, killed)
        with pytest.raises(KeyboardInterrupt):
            build()
    cache = open_cache(tmp_path / "cache", name)
    cache.images.check_all()
    assert (cache.facts.file, list(cache.image_paths)) == (file, [f"train/{row}.png" for row in range(3)])
    built, other, again = build()
    assert (built, again) == (True, name)
    assert [path.name for path in (tmp_path / "cache").glob("*.npz")] == [other.name]


def test_damaged_or_missing_facts_are_refused_and_made_again(
    tmp_path: Path, build: Build, draw_image: DrawImage
) -> None:
    _, file, name = build()
    data = file.read_bytes()
    file.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(InputError, match=r"\.npz: is damaged .*; run python -m src.prepare again"):
        open_cache(tmp_path / "cache", name)
    assert build() == (True, file, name)
    assert file.read_bytes() == data
    file.unlink()
    with pytest.raises(InputError, match=r"\.npz: not there; run python -m src.prepare again"):
        open_cache(tmp_path / "cache", name)
    assert build()[0]
    write_image(tmp_path / "input" / "train" / "2.png", draw_image(2))  # the same pixels at another time
    built, other, again = build()
    assert (built, again) == (True, name)
    assert [path.name for path in (tmp_path / "cache").glob("*.npz")] == [other.name]


def test_facts_that_an_error_kept_alive_close_their_file(tmp_path: Path) -> None:
    write_arrays(
        tmp_path / "facts", **columns_of(Texts.of("a"), Sources(np.ones(1), np.ones(1)), Readings.of([READINGS[0]], 1))
    )
    facts = Facts(tmp_path / "facts", sha256_of(tmp_path / "facts"), "prepare")
    vars(facts)["itself"] = facts  # a circle, as through an error's traceback
    del facts
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        gc.collect()
    assert not [str(one.message) for one in found if "unclosed" in str(one.message)]
