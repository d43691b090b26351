"""Small images, and the files that hold them."""

import gzip
import json
import struct
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np


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
