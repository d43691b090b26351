"""Shared by all tests: tiny competitions below tmp_path/input, and `podium`, which runs a command in-process.

The fixtures return functions, so that a test chooses when, how many images and which packing:

    def test_x(svhn, podium):
        folder = svhn(num_train=12)                      # tmp_path/input/svhn
        code, out, err = podium("prepare")               # cwd is tmp_path
        code, out, err = podium("train", "--backbone", "svhn_cnn", "--no-pretrained", "--epochs", "1")
"""

import gzip
import importlib
import json
import pickle
import signal
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

from src.core import cli
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


def draw(seed: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """Return a smooth random image (H, W, 3) uint8; no two seeds count as near-duplicates."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (12, 16, 3))
    return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def zip_folder(folder: Path, path: Path, prefix: str) -> None:
    """Zip a folder's files as macOS does: below `prefix`, with a __MACOSX junk file for each."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            name = PurePosixPath(prefix) / file.relative_to(folder)
            archive.write(file, str(name))
            archive.writestr(f"__MACOSX/{name.with_name(f'._{name.name}')}", b"junk")


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


def write_svhn(
    tmp_path: Path, num_train: int = 12, num_val: int = 6, num_test: int = 5, packing: str = "folder"
) -> Path:
    """Write input/svhn below a folder; see the fixture `svhn`."""
    folder = tmp_path / "input" / "svhn"
    for split, count, seed in (("train", num_train, 1000), ("val", num_val, 2000), ("test_a", num_test, 3000)):
        name, labels = f"mchar_{split}", {}
        nested = folder / name / name if packing == "nested" else folder / name
        for i in range(count):
            write_image(nested / f"{i:06d}.png", draw(seed + i))
            digits = [int(digit) for digit in np.random.default_rng(seed + i).integers(0, 10, i % 6 + 1)]
            boxes = {key: [index * 5 + 1 for index in range(len(digits))] for key in ("left", "top")}
            labels[f"{i:06d}.png"] = {
                "label": digits,
                **boxes,
                "width": [4] * len(digits),
                "height": [9] * len(digits),
            }
        if split != "test_a":
            (folder / f"{name}.json").write_text(json.dumps(labels))
        if packing == "nested":
            write_image(folder / "__MACOSX" / name / "000000.png", draw(0))
            (folder / name / "._000000.png").write_bytes(b"junk")
        if packing == "zip":
            zip_folder(folder / name, folder / f"{name}.zip", name)
            for file in (folder / name).iterdir():
                file.unlink()
            (folder / name).rmdir()
    rows = [f"{i:06d}.png,0" for i in range(num_test)]
    (folder / "mchar_sample_submit_A.csv").write_bytes("\r\n".join(["file_name,file_code", *rows, ""]).encode())
    return folder


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


def write_idx(path: Path, values: np.ndarray, packed: bool) -> None:
    """Write a uint8 array in the idx format, gzipped or not."""
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".gz" * packed).write_bytes(gzip.compress(data) if packed else data)


def write_four_idx(folder: Path, seed: int, num_train: int, num_test: int, packed: bool) -> Path:
    """Write MNIST's four files: image i of both parts is grey, of class i % 10, from seed + i or seed + 500 + i."""
    for part, count, first in (("train", num_train, seed), ("t10k", num_test, seed + 500)):
        images = np.stack([draw(first + i, (28, 28))[..., 0] for i in range(count)])
        write_idx(folder / f"{part}-images-idx3-ubyte", images, packed)
        write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8), packed)
    return folder


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
