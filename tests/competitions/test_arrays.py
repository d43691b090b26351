"""Raw pixel files are read exactly, and any other content is an error naming the file."""

import gzip
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from src.competitions.arrays import parse_idx, parse_pixels, read_cifar_batch
from src.competitions.registry import load_competition
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.labels import check_labels
from tests.fixtures import DrawImage, MakeCifar10, MakeMnist, Podium

COLUMNS = ["label", "pixel0", "pixel1"]
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def error_of(read: Callable[..., object], *arguments: object) -> str:
    """Return the message of the InputError that these arguments raise; it is one line."""
    with pytest.raises(InputError) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def read(name: str, folder: Path) -> tuple[list[tuple[str, int]], list[tuple[str, str]], dict[str, np.ndarray]]:
    """Return the training images with their class ids, the test images with their ids, and all raw pixels."""
    competition, files = load_competition(name), InputFiles(folder)
    labels = check_labels(competition.read_train(files), competition)
    test = competition.read_test(files)
    train = list(zip(labels["image_path"], labels[competition.targets[0]].tolist(), strict=True))
    return train, list(zip(test["image_path"], test["id"], strict=True)), files.pixels


def mnist_train(folder: Path) -> None:
    read("mnist", folder)


# ---- valid files


@pytest.mark.parametrize("packing", ["gz", "idx", "kaggle"])
def test_a_digit_keeps_its_pixels_class_and_order(mnist: MakeMnist, draw_image: DrawImage, packing: str) -> None:
    train, test, pixels = read("mnist", mnist(20, 6, packing))
    test_part = "test" if packing == "kaggle" else "t10k"
    assert train == [(f"train/{i:05d}", i % 10) for i in range(20)]
    assert test == [(f"{test_part}/{i:05d}", str(i + 1)) for i in range(6)]
    for paths, seed in ((train, 10000), (test, 10500)):
        for i, (path, _) in enumerate(paths):
            grey = draw_image(seed + i, (28, 28))[..., :1]
            assert pixels[path].shape == (28, 28, 3)
            assert pixels[path].dtype == np.uint8
            assert (pixels[path] == grey).all()


def test_fashion_mnist_is_read_like_mnist_and_may_be_flipped(fashion_mnist: MakeMnist, draw_image: DrawImage) -> None:
    train, test, pixels = read("fashion_mnist", fashion_mnist())
    assert train == [(f"train/{i:05d}", i % 10) for i in range(20)]
    assert (pixels["t10k/00005"] == draw_image(11505, (28, 28))[..., :1]).all()
    assert test[5] == ("t10k/00005", "6")
    competition = load_competition("fashion_mnist")
    assert competition.hflip_ok
    assert not load_competition("mnist").hflip_ok
    assert competition.class_names[7] == "Sneaker"
    assert competition.decode([7]) == "7"


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx_files_are_found_with_dotted_names_and_in_a_zip(mnist: MakeMnist, suffix: str) -> None:
    folder = mnist(packing="gz" if suffix else "idx")
    expected = read("mnist", folder)
    with zipfile.ZipFile(folder / "mnist.zip", "w") as archive:
        for path in sorted(folder.glob("*ubyte*")):
            archive.write(path, "MNIST/raw/" + path.name.replace("-idx", ".idx"))
            path.unlink()
    found = read("mnist", folder)
    assert found[:2] == expected[:2]
    assert all((found[2][path] == pixels).all() for path, pixels in expected[2].items())


def test_idx_reads_the_last_axis_fastest() -> None:
    data = bytes([0, 0, 8, 2]) + struct.pack(">II", 2, 3) + bytes(range(6))
    assert parse_idx(data, "x").tolist() == parse_idx(gzip.compress(data), "x").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_pixel_csv_may_have_a_byte_order_mark_and_windows_line_ends(start: bytes, end: str) -> None:
    data = start + end.join(["label,pixel0,pixel1", "7,0,255", "9,12,3", ""]).encode()
    assert parse_pixels(data, "train.csv", COLUMNS).tolist() == [[7, 0, 255], [9, 12, 3]]


def test_kaggles_digits_follow_the_order_of_the_sample_submission(mnist: MakeMnist) -> None:
    folder = mnist(packing="kaggle")
    (folder / "sample_submission.csv").write_text("ImageId,Label\n6,0\n1,0\n3,0\n")
    assert read("mnist", folder)[1] == [("test/00005", "6"), ("test/00000", "1"), ("test/00002", "3")]


def test_cifar_batches_are_rgb_and_in_order(cifar10: MakeCifar10, draw_image: DrawImage) -> None:
    train, test, pixels = read("cifar10", cifar10(20, 6, "batches"))
    expected = [(f"data_batch_{k + 1}/{row:05d}", i) for k in range(5) for row, i in enumerate(range(k, 20, 5))]
    assert train == [(path, i % 10) for path, i in expected]
    assert test == [(f"test_batch/{i:05d}", str(i + 1)) for i in range(6)]
    for path, i in expected:
        assert (pixels[path] == draw_image(12000 + i, (32, 32))).all()
    assert (pixels["test_batch/00003"] == draw_image(12503, (32, 32))).all()
    assert not (draw_image(12503, (32, 32)) == draw_image(12503, (32, 32))[..., ::-1]).all()


@pytest.mark.parametrize(("packing", "suffix"), [("folder", ".png"), ("folder", ".jpg"), ("zip", ".png")])
def test_kaggles_cifar_is_read_by_its_ids(cifar10: MakeCifar10, packing: str, suffix: str) -> None:
    train, test, pixels = read("cifar10", cifar10(12, 11, packing, suffix))
    assert train == [(f"train/{i + 1}{suffix}", i % 10) for i in range(12)]
    assert test == [(f"test/{i + 1}{suffix}", str(i + 1)) for i in range(11)]
    assert not pixels


class PythonTwo(pickle._Pickler):
    """Writes bytes as Python 2 wrote its str (opcode T, length, bytes), as in CIFAR's real files."""

    write: Callable[[bytes], object]
    memoize: Callable[[object], None]
    dispatch: ClassVar[dict[type, Any]] = pickle._Pickler.dispatch.copy()

    def save_bytes(self, data: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes


def test_a_batch_written_by_python_2_is_read(tmp_path: Path) -> None:
    data = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    path = tmp_path / "data_batch_1"
    with path.open("wb") as stream:
        PythonTwo(stream, protocol=2).dump({b"data": data, b"labels": [3, 1], b"filenames": [b"a.png", b"b.png"]})
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    images, labels, location = read_cifar_batch(InputFiles(tmp_path), path.name)
    assert labels == [3, 1]
    assert location.file == str(path)
    assert (images[1, 2, 5] == data[1, [69, 1024 + 69, 2048 + 69]]).all()


# ---- errors: idx


def test_a_truncated_or_invalid_idx_file_is_an_error(mnist: MakeMnist) -> None:
    folder = mnist(packing="idx")
    path = folder / IMAGES
    data = path.read_bytes()
    packed = gzip.compress(data)
    wrong = {
        "not an idx file of bytes": [b"", b"<html>", data[:7], b"\0\0\x0d" + data[3:], b"\0\0\x08\0", data[1:]],
        "values, the header says 20x28x28; is the file cut off?": [data[:-1], data + b"\0", data[:16]],
        "not a valid gzip file": [
            packed[:-9],
            packed[: len(packed) // 2],
            packed[:5],
            packed + b"x",
            b"\x1f\x8b<html>",
        ],
    }
    damaged = bytearray(packed)
    damaged[-6] ^= 1  # in the checksum
    wrong["not a valid gzip file"].append(bytes(damaged))
    for words, contents in wrong.items():
        for content in contents:
            path.write_bytes(content)
            message = error_of(mnist_train, folder)
            assert message.startswith(f"{IMAGES}: ")
            assert words in message


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (0, 28, 28), (20, 0, 28), (20, 28, 0)])
def test_a_header_with_no_images_or_far_too_many_is_an_error(
    mnist: MakeMnist, podium: Podium, shape: tuple[int, ...]
) -> None:
    folder = mnist(packing="idx")
    (folder / IMAGES).write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape))
    if shape[0] == 0:
        (folder / LABELS).write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 0))
    code, _, err = podium("prepare", "--competition", "mnist")
    assert code == 2
    assert IMAGES in err


def test_labels_and_images_must_have_the_same_count_and_the_right_shape(mnist: MakeMnist) -> None:
    folder = mnist(packing="idx")
    labels, images = (folder / LABELS).read_bytes(), (folder / IMAGES).read_bytes()
    (folder / LABELS).write_bytes(labels[:4] + struct.pack(">I", 19) + labels[8:-1])
    assert error_of(mnist_train, folder).startswith(f"{folder / LABELS}: 19 labels for 20 images")
    (folder / LABELS).write_bytes(labels[:11] + b"\x0a" + labels[12:])
    assert "train/00003: digit is 10, outside 0-9" in error_of(mnist_train, folder)
    (folder / LABELS).write_bytes(labels)
    (folder / IMAGES).write_bytes(images[:3] + b"\2" + struct.pack(">2I", 20, 784) + images[16:])
    assert error_of(mnist_train, folder).startswith(f"{folder / IMAGES}: 2 dimensions, images have 3")


@pytest.mark.parametrize("name", [IMAGES, LABELS, "t10k-images-idx3-ubyte"])
def test_a_missing_idx_file_is_an_error_that_says_where_to_get_it(mnist: MakeMnist, podium: Podium, name: str) -> None:
    (mnist() / f"{name}.gz").unlink()
    code, _, err = podium("prepare", "--competition", "mnist")
    assert code == 2
    assert f"{name} is missing. Put the four idx files of MNIST" in err


# ---- errors: pixel CSV


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1: 1 columns from '', not label..pixel1"),
        (b"pixel0,pixel1\n1,2\n", "line 1: 2 columns from 'pixel0'"),
        (b"label;pixel0;pixel1\n1;2;3\n", "line 1: 1 columns from"),
        (b"label,pixel0,pixel1\n", "no rows"),
        (b"label,pixel0,pixel1\n\n\n", "no rows"),
        (b"label,pixel0,pixel1\n1,2\n3,4\n", "no rows of 3 values"),
        (b"label,pixel0,pixel1\n1,2,3\n4,5\n6,7,8\n", "line 3: "),
        (b"label,pixel0,pixel1\n1,2,3\n4,5,6\n6,7,8,9\n", "line 4: "),
        (b"label,pixel0,pixel1\n1,2,3\n4,x,6\n", "line 3: could not convert string 'x'"),
        (b"label,pixel0,pixel1\n1,,3\n", "line 2: could not convert string ''"),
        (b"label,pixel0,pixel1\n1,0.5,3\n", "line 2: could not convert string '0.5'"),
        (b"label,pixel0,pixel1\n1,2,nan\n", "line 2: could not convert string 'nan'"),
        (b"label,pixel0,pixel1\n1,2,3\n1,2,\xff\n", "line 3: could not convert"),
        (b"label,pixel0,pixel1\n1,2,3\n1,256,3\n", "line 3: pixel0 is 256, outside 0-255"),
        (b"label,pixel0,pixel1\n\n1,2,3\r\n\r\n4,x,6\n", "line 5: could not convert string 'x'"),
        (b"label,pixel0,pixel1\n1,2,3\n\n1,256,3\n", "line 4: pixel0 is 256, outside 0-255"),
        (b"label,pixel0,pixel1\n\n1,2,3\n4,5\n", "line 4: "),
        (b"label,pixel0,pixel1\n1,2,-1\n", "line 2: pixel1 is -1, outside 0-255"),
        (b"label,pixel0,pixel1\n1,2,99999999999999999999\n", "line 2: could not convert"),
    ],
)
def test_an_invalid_pixel_csv_is_an_error_naming_the_line(data: bytes, words: str) -> None:
    message = error_of(parse_pixels, data, "train.csv", COLUMNS)
    assert message.startswith("train.csv")
    assert words in message


def test_invalid_kaggle_digits_are_an_error_naming_file_and_line(mnist: MakeMnist) -> None:
    folder = mnist(packing="kaggle")
    rows = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join([*rows[:3], "10" + rows[3][1:], *rows[4:]]))
    assert error_of(mnist_train, folder) == "train.csv, line 4: label 10 is not a digit 0-9"
    (folder / "train.csv").write_text("\n".join([rows[0], "", *rows[1:3], "10" + rows[3][1:], *rows[4:]]))
    assert error_of(mnist_train, folder) == "train.csv, line 5: label 10 is not a digit 0-9"
    (folder / "train.csv").write_text("\n".join(row.split(",", 1)[1] for row in rows))  # test.csv under its name
    assert "train.csv, line 1: 784 columns from 'pixel0'" in error_of(mnist_train, folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ImageId,Label\n1,0\n7,0\n", "id '7' is not a row of test.csv (1-6)"),
        ("ImageId,Label\n0,0\n", "id '0' is not a row of test.csv (1-6)"),
        ("ImageId,Label\n01,0\n", "id '01' is not a row of test.csv"),
        ("Id,Label\n1,0\n", "line 1: the header is Id,Label, expected ImageId,Label"),
        ("ImageId,Label\n1,0\n1,0\n", "line 3: id '1' appears twice"),
    ],
)
def test_a_sample_submission_that_does_not_match_the_digits_is_an_error(
    mnist: MakeMnist, text: str, words: str
) -> None:
    folder = mnist(packing="kaggle")
    (folder / "sample_submission.csv").write_text(text)
    message = error_of(mnist_train, folder)
    assert message.startswith("sample_submission.csv")
    assert words in message


# ---- errors: CIFAR


def test_kaggles_cifar_with_other_labels_is_an_error(cifar10: MakeCifar10) -> None:
    path = cifar10() / "trainLabels.csv"
    path.write_text(path.read_text().replace("truck", "lorry"))
    message = error_of(read, "cifar10", path.parent)
    assert message == "trainLabels.csv: the labels are not CIFAR-10's ten classes (see 'lorry')"
