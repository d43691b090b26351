"""Draws the demo competition: house numbers made of scikit-learn's handwritten digits."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from src.competitions.demo import NUM_GROUPS
from src.config import MakeDemoConfig
from src.core.writing import write_csv, write_json

LENGTHS = (0.3, 0.3, 0.2, 0.1, 0.06, 0.04)  # shares of numbers with 1 to 6 digits
TEST_DIGITS = 400  # handwritten digits reserved for test images


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two colours (3,) that differ by at least 60 grey levels."""
    while True:
        plate, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        if abs(plate.mean() - ink.mean()) > 60:
            return plate, ink


def draw_number(rng: np.random.Generator, glyphs: list[np.ndarray]) -> tuple[np.ndarray, list[list[int]]]:
    """Draw one house number: a coloured plate with digits inside a larger, noisy image.

    `glyphs` are (8, 8) float arrays of ink in [0, 1]. Returns the image (H, W, 3) uint8 and the boxes
    [left, top, width, height] of its digits in pixels.
    """
    height = int(rng.integers(18, 34))
    widths = [int(height * rng.uniform(0.6, 0.85)) for _ in glyphs]
    margin = [int(rng.integers(2, 8)) for _ in range(4)]  # left, top, right, bottom of the plate
    plate, ink = _colours(rng)
    outer = [int(rng.integers(0, height // 5 + 1)) for _ in range(4)]
    size = (
        height + margin[1] + margin[3] + outer[1] + outer[3],
        sum(widths) + margin[0] + margin[2] + outer[0] + outer[2],
    )
    image = np.empty((*size, 3))
    image[:] = rng.uniform(0, 255, 3)
    rows, columns = slice(outer[1], size[0] - outer[3]), slice(outer[0], size[1] - outer[2])
    image[rows, columns] = plate
    left, boxes = outer[0] + margin[0], []
    for glyph, width in zip(glyphs, widths, strict=True):
        top = outer[1] + margin[1] + int(rng.integers(-1, 2))
        coverage = cv2.resize(glyph, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]
        area = image[top : top + height, left : left + width]
        area[:] = (1 - coverage) * area + coverage * ink
        boxes.append([left, top, width, height])
        left += width
    light = np.linspace(rng.uniform(-25, 25), rng.uniform(-25, 25), size[1])[None, :, None]
    image = cv2.GaussianBlur(image + light, (0, 0), rng.uniform(0.3, 1.0)) + rng.normal(
        0, rng.uniform(2, 10), image.shape
    )
    return image.clip(0, 255).astype(np.uint8), boxes


def _write_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG; leave an identical file untouched, with its time, so that prepare's cache stays valid."""
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def _write_split(
    folder: Path, split: str, count: int, pools: list[np.ndarray], seed: int
) -> dict[str, dict[str, list[int]]]:
    """Write `count` images and return their labels; image i takes its digits from pool i modulo the number of pools."""
    digits = load_digits()
    image_dir = folder / f"mchar_{split}"
    image_dir.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        picked = rng.choice(pools[number % len(pools)], size=rng.choice(6, p=LENGTHS) + 1)
        image, boxes = draw_number(rng, [digits.images[row] / 16 for row in picked])
        _write_image(image_dir / f"{number:06d}.png", image)
        left, top, width, height = (list(column) for column in zip(*boxes, strict=True))
        label = [int(digits.target[row]) for row in picked]
        labels[f"{number:06d}.png"] = {"height": height, "label": label, "left": left, "top": top, "width": width}
    return labels


def make_demo(config: MakeDemoConfig) -> None:
    """Write the competition's files. See the module's docstring."""
    folder = config.input_dir / "demo"
    rows = np.random.default_rng(0).permutation(len(load_digits().target))
    train_pools = np.array_split(rows[TEST_DIGITS:], NUM_GROUPS)
    for split, count, seed in (("train", config.num_train, 1), ("val", config.num_val, 2)):
        write_json(folder / f"mchar_{split}.json", _write_split(folder, split, count, train_pools, seed))
    labels = _write_split(folder, "test_a", config.num_test, [rows[:TEST_DIGITS]], 3)
    codes = ["".join(map(str, entry["label"])) for entry in labels.values()]
    sample = pd.DataFrame({"file_name": list(labels), "file_code": "0"})
    write_csv(folder / "mchar_sample_submit_A.csv", sample)
    write_csv(folder / "hidden_answers.csv", sample.assign(file_code=codes))
    digest = hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:12]
    print(f"{config.num_train} + {config.num_val} training and {config.num_test} test images in {folder} ({digest})")
