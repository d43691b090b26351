"""Shared by all tests: tiny competitions below tmp_path/input, and `podium`, which runs a command in-process.

The fixtures return functions, so that a test chooses when, how many images and which packing:

    def test_x(svhn, podium):
        folder = svhn(num_train=12)                      # tmp_path/input/svhn
        code, out, err = podium("prepare")               # cwd is tmp_path
        code, out, err = podium("train", "--backbone", "svhn_cnn", "--no-pretrained", "--epochs", "1")
"""

import importlib
import pickle
import signal
import struct
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from src.core import cli
from tests.drawing import draw, write_four_idx, write_image, write_svhn, zip_folder
from tests.fixtures import DrawImage, Finished, MakeCifar10, MakeFood11, MakeLeaves, MakeMnist, MakeSvhn, Podium, Train

# Tests started in the background inherit an ignored SIGINT, and so would the commands that they interrupt with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

LEAVES = '''"""Leaves: a user's own competition file."""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="leaves",
    id_column="image_id",
    label_column="species",
    image_size=(24, 32),
    source="Get leaves.zip from kaggle.com/c/leaves",
)
'''
SPECIES = ("NA", "007", "oak, red", "null")  # texts that a careless CSV reader would change
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


# Dropout, batch norm, mixup, EMA and Adam's moments: all the state that a resume could lose.
TRAIN = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 32, 48, "--batch-size", 4, "--epochs", 3,
         "--mixup", 0.2, "--fold", 0)  # fmt: skip


@pytest.fixture
def draw_image() -> DrawImage:
    """Return `draw(seed, size=(30, 40))`: a smooth random RGB image."""
    return draw


@pytest.fixture
def png_header() -> Callable[[int, int], bytes]:
    """Return a function (width, height) -> bytes of a PNG whose header has this size but that holds almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def make(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    return make


@pytest.fixture
def svhn(tmp_path: Path) -> MakeSvhn:
    """Return a function that writes input/svhn as the organiser ships it, and returns that folder.

    Numbers have 1 to 6 digits with boxes; image i of train, val and test has seed 1000 + i, 2000 + i, 3000 + i.
    `packing` is "folder" (mchar_train/000000.png), "nested" (mchar_train/mchar_train/ and junk next to it) or "zip".
    """

    return partial(write_svhn, tmp_path)


@pytest.fixture
def food11(tmp_path: Path) -> MakeFood11:
    """Return a function that writes input/food11 (`packing` "folder" or "zip") and returns that folder.

    training/<class>_<i>.jpg and validation/ have images of classes 0 to 3; testing/ has 0000.jpg, 0001.jpg ...
    """

    def write(num_per_class: int = 4, num_val: int = 4, num_test: int = 12, packing: str = "folder") -> Path:
        folder = tmp_path / "input" / "food11"
        content = folder / "food-11" if packing == "zip" else folder
        for i in range(4 * num_per_class):
            write_image(content / "training" / f"{i % 4}_{i}.jpg", draw(4000 + i))
        for i in range(num_val):
            write_image(content / "validation" / f"{i % 4}_{i}.jpg", draw(5000 + i))
        for i in range(num_test):
            write_image(content / "testing" / f"{i:04d}.jpg", draw(6000 + i))
        if packing == "zip":
            zip_folder(content, folder / "food-11.zip", "food-11")
            content.rename(tmp_path / "unpacked")
        return folder

    return write


@pytest.fixture
def leaves(tmp_path: Path) -> MakeLeaves:
    """Return a function that writes input/leaves (train.csv, train/, test/, sample_submission.csv) and leaves.py.

    It returns the path of leaves.py, a user's own competition file, for `--competition leaves.py`.
    The ids of train.csv have no extension, those of the sample submission have one.
    """

    def write(num_train: int = 16, num_test: int = 5) -> Path:
        folder = tmp_path / "input" / "leaves"
        for i in range(num_train):
            write_image(folder / "train" / f"{i:04d}.png", draw(7000 + i))
        for i in range(num_test):
            write_image(folder / "test" / f"{i:04d}.png", draw(8000 + i))
        rows = [f'{i:04d},"{SPECIES[i % 4]}"' for i in range(num_train)]
        (folder / "train.csv").write_text("\n".join(["image_id,species", *rows, ""]))
        rows = [f"{i:04d}.png,007" for i in reversed(range(num_test))]
        (folder / "sample_submission.csv").write_text("\n".join(["image_id,species", *rows, ""]))
        (tmp_path / "leaves.py").write_text(LEAVES)
        return tmp_path / "leaves.py"

    return write


@pytest.fixture
def mnist(tmp_path: Path) -> MakeMnist:
    """Return a function that writes input/mnist, and returns that folder; see `write_four_idx`, seed 10000.

    `packing` is "gz", "idx" (not gzipped) or "kaggle": the same images in train.csv and test.csv, and a
    sample_submission.csv, whose ImageId counts from 1.
    """

    def write(num_train: int = 20, num_test: int = 6, packing: str = "gz") -> Path:
        folder = tmp_path / "input" / "mnist"
        if packing != "kaggle":
            return write_four_idx(folder, 10000, num_train, num_test, packing == "gz")
        folder.mkdir(parents=True, exist_ok=True)
        header = ",".join(f"pixel{i}" for i in range(784))
        for name, count, first in (("train", num_train, 10000), ("test", num_test, 10500)):
            rows = [header] + [",".join(map(str, draw(first + i, (28, 28))[..., 0].ravel())) for i in range(count)]
            if name == "train":
                rows = [f"{(i - 1) % 10 if i else 'label'},{row}" for i, row in enumerate(rows)]
            (folder / f"{name}.csv").write_text("\n".join([*rows, ""]))
        rows = [f"{i + 1},0" for i in range(num_test)]
        (folder / "sample_submission.csv").write_text("\n".join(["ImageId,Label", *rows, ""]))
        return folder

    return write


@pytest.fixture
def fashion_mnist(tmp_path: Path) -> MakeMnist:
    """Return a function that writes input/fashion_mnist (`packing` "gz" or "idx") with seed 11000; see `mnist`."""

    def write(num_train: int = 20, num_test: int = 6, packing: str = "gz") -> Path:
        return write_four_idx(tmp_path / "input" / "fashion_mnist", 11000, num_train, num_test, packing == "gz")

    return write


@pytest.fixture
def cifar10(tmp_path: Path) -> MakeCifar10:
    """Return a function that writes input/cifar10, and returns that folder.

    `packing` is "folder" (Kaggle's train/1.png, test/1.png, CSV files), "zip" (train.zip, test.zip) or "batches" (the
    authors' pickles: every fifth image). Image i has class i % 10 and seed 12000 + i or 12500 + i.
    """

    def write(num_train: int = 20, num_test: int = 6, packing: str = "folder", suffix: str = ".png") -> Path:
        folder = tmp_path / "input" / "cifar10"
        images = {"train": [draw(12000 + i, (32, 32)) for i in range(num_train)]}
        images["test"] = [draw(12500 + i, (32, 32)) for i in range(num_test)]
        if packing == "batches":
            inside = folder / "cifar-10-batches-py"
            inside.mkdir(parents=True, exist_ok=True)
            parts = [(f"data_batch_{k + 1}", "train", range(k, num_train, 5)) for k in range(5)]
            for name, kind, chosen in [*parts, ("test_batch", "test", range(num_test))]:
                data = np.stack([images[kind][i].transpose(2, 0, 1).ravel() for i in chosen])
                batch = {b"data": data, b"labels": [i % 10 for i in chosen], b"batch_label": name.encode()}
                (inside / name).write_bytes(pickle.dumps(batch, protocol=2))
            return folder
        for kind, some in images.items():
            for i, image in enumerate(some):
                write_image(folder / kind / f"{i + 1}{suffix}", image)
            if packing == "zip":
                zip_folder(folder / kind, folder / f"{kind}.zip", kind)
                (folder / kind).rename(tmp_path / f"unpacked {kind}")
        rows = [f"{i + 1},{THINGS[i % 10]}" for i in range(num_train)]
        (folder / "trainLabels.csv").write_text("\n".join(["id,label", *rows, ""]))
        rows = [f"{i + 1},cat" for i in range(num_test)]
        (folder / "sampleSubmission.csv").write_text("\n".join(["id,label", *rows, ""]))
        return folder

    return write


@pytest.fixture
def podium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Podium:
    """Return a function that runs `python -m src.<command> <flags>` in this process, in tmp_path.

    It goes through src.core.cli.run, so a mistake gives an exit code and stderr as the user sees them; any other
    exception fails the test. prepare decodes in one process by default: starting more takes seconds.
    """

    def run(command: str, *flags: object) -> Finished:
        module = importlib.import_module(f"src.{command}")
        config_class = module.main.__annotations__["config"]
        arguments = [str(flag) for flag in flags]
        if command == "prepare" and "--num-processes" not in arguments:
            arguments += ["--num-processes", "1"]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
        capsys.readouterr()  # discard earlier output
        code = 0
        try:
            cli.run(module.main, config_class, module.__doc__)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


@pytest.fixture
def train(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> Train:
    """Return a function that trains fold 0 of a run, and returns the fold's folder and the command's result.

    The 9 training images make two batches of 4 per epoch (the remaining image comes in another epoch), for 3 epochs.
    Flags given to the function override the defaults.
    """
    svhn(num_train=12, num_val=6, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0

    def run(name: str, *flags: object) -> tuple[Path, Finished]:
        ended = podium("train", *TRAIN, "--run-name", name, *flags)
        return tmp_path / "runs" / "svhn" / name / "fold0", ended

    return run


@pytest.fixture(scope="session")
def finished_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two finished runs of a tiny svhn; see tests/world.py. Link it, do not change it."""
    from tests.world import PREPARE, done, finish

    folder = tmp_path_factory.mktemp("world")
    write_svhn(folder, num_train=12, num_val=6, num_test=3)
    done(folder, "prepare", *PREPARE)
    finish(folder)
    return folder


@pytest.fixture
def world(finished_world: Path, tmp_path: Path) -> Path:
    """Return a folder of the test's own with two finished runs; see tests/world.py."""
    from tests.world import link

    return link(finished_world, tmp_path / "world")
