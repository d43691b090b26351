"""Odd names, odd zips, odd images, odd class names: one clear line, or the right answer."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.core.errors import InputError
from src.core.locking import delete_stale, locked
from src.core.writing import write_csv
from src.data.cache import open_cache
from src.data.images import ImageProblem, decode_image, resize, zero_tail
from tests.fixtures import DrawImage, Finished, MakeLeaves, MakeSvhn, Podium
from tests.helpers import table_at
from tests.world import refused


def prepare(podium: Podium, *flags: object) -> Finished:
    return podium("prepare", "--competition", "leaves.py", "--num-folds", 2, *flags)


def test_an_image_whose_name_is_not_utf8_is_one_line(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    image = tmp_path / "input/leaves/train/0000.png"
    os.rename(image, os.fsencode(image.parent) + b"/M\xfcller.png")
    refused(prepare(podium), "M\\xfcller.png", "is not UTF-8; rename it")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("flag", ["--run-name", "--runs-dir", "--name"])
def test_flags_that_are_not_utf8_are_one_line(podium: Podium, command: str, flag: str) -> None:
    refused(podium(command, flag, "M\udcfcller"), "argument b'M\\xfcller' is not UTF-8")


def test_a_loop_of_symbolic_links_is_one_line(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    folder = tmp_path / "input/leaves/train"
    (folder / "one.png").symlink_to(folder / "two.png")
    (folder / "two.png").symlink_to(folder / "one.png")
    refused(prepare(podium), "one.png: is a loop of symbolic links; remove it")


def test_folders_may_be_nested_deeper_than_python_calls(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    here = os.getcwd()
    os.chdir(tmp_path / "input" / "leaves")
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    try:
        assert prepare(podium).code == 0
    finally:  # pytest's own clean-up would fail on it
        subprocess.run(["rm", "-rf", str(tmp_path / "input" / "leaves" / "d")], check=True)


def test_of_repeated_zip_members_the_last_is_read_and_it_is_said(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, draw_image: DrawImage
) -> None:
    leaves()
    folder = tmp_path / "input" / "leaves"
    first, last = (cv2.imencode(".png", draw_image(seed))[1].tobytes() for seed in (1, 2))
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for path in sorted((folder / "train").iterdir()):
            archive.write(path, f"train/{path.name}")
        for data in (first, last):
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("train/0003.png", data)
    for path in (folder / "train").iterdir():
        path.unlink()
    ended = prepare(podium)
    assert ended.code == 0
    assert "train.zip holds 2 files more than once, such as train/0003.png; the last of each is read" in ended.out
    (file,) = (tmp_path / "runs/leaves/cache").glob("train_*.npy")
    cache = open_cache(file.parent, file.stem)
    (row,) = cache.rows_of(["train/0003.png"])
    assert (cache.images[row] == resize(decode_image(last), (24, 32))).all()


@pytest.mark.parametrize(("in_labels", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_in_any_unicode_form(
    leaves: MakeLeaves,
    podium: Podium,
    tmp_path: Path,
    in_labels: Literal["NFC", "NFD"],
    other: Literal["NFC", "NFD"],
) -> None:
    leaves()
    folder = tmp_path / "input" / "leaves"
    table = (folder / "train.csv").read_text().replace("0003,", f"{unicodedata.normalize(in_labels, 'é3')},")
    (folder / "train.csv").write_text(table)
    (folder / "train/0003.png").rename(folder / f"train/{unicodedata.normalize(other, 'é3')}.png")
    ended = prepare(podium)
    assert ended.code == 0
    assert "missing" not in ended.out
    assert len(table_at(tmp_path / "runs" / "leaves", "labels")) == 16


def test_labelled_twice_names_the_lines(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text() + "0002.png,007\n")
    refused(prepare(podium), "'train/0002.png' is labelled twice: train.csv, line 4 and train.csv, line 18")


@pytest.mark.parametrize(("old", "new"), [("0002,", '"0002\r",'), ('"oak, red"', '"oak, red\r"')])
def test_a_carriage_return_in_an_id_or_label_is_refused_by_prepare(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, old: str, new: str
) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_bytes(path.read_text().replace(old, new, 1).encode())
    refused(prepare(podium), "train.csv, line 5", "holds a control character")  # \r begins a line, too


def test_a_carriage_return_in_a_test_id_is_refused_by_prepare(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "sample_submission.csv"
    path.write_bytes(path.read_text().replace("0002.png,", '"0002.png\r",').encode())
    refused(prepare(podium), "test id '0002.png\\r' holds a control character")


@pytest.mark.parametrize("twin", ["oak, red ", "Oak, Red", "oak，red".replace("，", ", ") + "\u200a"])
def test_classes_that_look_alike_are_told(leaves: MakeLeaves, podium: Podium, tmp_path: Path, twin: str) -> None:
    leaves()
    path = tmp_path / "input" / "leaves" / "train.csv"
    path.write_text(path.read_text().replace('"oak, red"', f'"{twin}"', 1))
    ended = prepare(podium)
    assert ended.code == 0
    assert "warning: some classes of label differ only in spaces, case or Unicode form" in ended.out
    assert repr(twin) in ended.out


def test_tables_for_people_do_not_run_as_formulas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"=class": ["=1+1", "@x", "-5", "plain", "+cmd"], "count": [1, -2, 3, 4, 5]})
    write_csv(tmp_path / "people.csv", frame, for_people=True)
    with open(tmp_path / "people.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["'=class", "count"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "'@x", "-5", "plain", "'+cmd"]
    assert rows[2][1] == "-2"
    write_csv(tmp_path / "machine.csv", frame)
    assert pd.read_csv(tmp_path / "machine.csv", dtype=str)["=class"].tolist() == frame["=class"].tolist()


@pytest.mark.parametrize("name", [".x.99999999999999999999.tmp", ".x.abc.tmp", ".x.0-1.tmp.tmp", ".x..tmp"])
def test_odd_temporary_files_are_no_traceback(svhn: MakeSvhn, podium: Podium, tmp_path: Path, name: str) -> None:
    svhn()
    folder = tmp_path / "runs" / "svhn" / "prepared"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"left over")
    assert podium("prepare", "--num-folds", 2).code == 0
    delete_stale(folder)
    assert not (folder / name).exists()


def test_a_lock_that_is_a_symbolic_link_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".folder.lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(InputError, match=r"\.folder\.lock: is a symbolic link; remove it"),
        locked(tmp_path / "folder", "is testing"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def with_zero_end(data: bytes, share: float = 0.5) -> bytes:
    cut = int(len(data) * share)
    return data[:cut] + bytes(len(data) - cut)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("kind", "options"), [("WEBP", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {}), ("JPEG", {}), ("PNG", {})]
)
def test_compressed_images_that_end_in_zeros_are_truncated(
    draw_image: DrawImage, kind: str, options: dict[str, object], share: float
) -> None:
    rng = np.random.default_rng(0)
    image = np.clip(draw_image(1, (120, 160)) + rng.normal(0, 20, (120, 160, 3)), 0, 255).astype(np.uint8)
    data = encoded(image, kind, **options)
    assert decode_image(data).shape == image.shape
    with pytest.raises(ImageProblem, match="truncated"):
        decode_image(with_zero_end(data, share))


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000", "JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_images_of_one_colour_are_whole(kind: str, level: int) -> None:
    for size in (1, 8, 300):
        assert decode_image(encoded(np.full((size, size, 3), level, np.uint8), kind)).shape == (size, size, 3)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_uncompressed_images_that_end_in_zeros_are_noted(draw_image: DrawImage, kind: str) -> None:
    data = encoded(draw_image(1), kind)
    assert zero_tail(data) == ""
    assert zero_tail(with_zero_end(data)) == "the last 50% of its bytes are zero"


def test_a_few_images_with_a_zero_end_are_listed_and_kept(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, draw_image: DrawImage
) -> None:
    leaves(num_train=40)
    folder = tmp_path / "input" / "leaves" / "train"
    (folder / "0003.png").unlink()
    (folder / "0003.bmp").write_bytes(with_zero_end(encoded(draw_image(7003), "BMP")))
    ended = prepare(podium)
    assert ended.code == 0
    assert "1 train zero end" in ended.out
    problems = table_at(tmp_path / "runs" / "leaves", "problems")
    assert problems["action"].tolist() == ["kept"]
    refused(prepare(podium, "--strict"), "train/0003.bmp (train): zero end")


def png_claiming(length: int) -> bytes:
    """Return a PNG whose pixel chunk claims this length."""
    data = bytearray(encoded(np.zeros((1, 1, 3), np.uint8), "PNG"))
    struct.pack_into(">I", data, data.index(b"IDAT") - 4, length)
    return bytes(data)


def test_a_chunk_that_claims_more_than_the_file_has_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(ImageProblem, match="a chunk claims 4,294,967,040 bytes"):
        decode_image(png_claiming(0xFFFFFF00))


OVER_THE_LIMIT = """
import sys
from pathlib import Path

import numpy as np

from src.core.zips import Location
from src.data import decoding
from src.data.images import Decoding

decoding.MAX_MEMORY = 64 << 20
path = Path(sys.argv[1])
rows = path.with_suffix(".npy")
np.lib.format.open_memmap(rows, mode="w+", dtype=np.uint8, shape=(1, 8, 8, 3)).flush()
found = decoding.decode_all(rows, "x", [Location(str(path), "", path.stat().st_size, 0)], Decoding(10**8))
assert found[0][0] == "over-large" and "takes more than" in found[0][1], found
assert np.ones(256 << 20, np.uint8).size, "the limit is given back"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_decoding_has_a_memory_limit_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(encoded(np.zeros((6000, 6000, 3), np.uint8), "PNG", compress_level=1))
    # A process of its own: what earlier tests left to be freed would make room below the limit.
    command = [sys.executable, "-c", OVER_THE_LIMIT, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_problem_table_of_hostile_names_is_harmless_in_a_spreadsheet(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves()
    folder = tmp_path / "input" / "leaves"
    (folder / "train.csv").write_text((folder / "train.csv").read_text().replace("007", "=1+1"))
    assert prepare(podium).code == 0
    net = ("--backbone", "string_cnn", "--no-pretrained", "--epochs", 1, "--batch-size", 4)
    assert podium("train", "--competition", "leaves.py", *net).code == 0
    assert podium("evaluate", "--competition", "leaves.py").code == 0
    table = (tmp_path / "runs/leaves/baseline/evaluation/by_class.csv").read_text()
    assert "'=1+1" in table
    assert json.loads((tmp_path / "runs/leaves/baseline/evaluation/scores.json").read_text())
