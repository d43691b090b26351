"""Plant near-duplicates among a competition's training images; count how many prepare would find, and false pairs.

    python -m benchmarks.duplicates --competition food11 --images 4000 --planted 300 --sheet copies.png

Each planted duplicate is made from the full-size image and then stretched to the cache's size. Pairs of originals that
are found may be real duplicates or false positives: --sheet draws them for inspection.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.competitions.registry import load_competition
from src.core import cli
from src.core.reading import InputFiles
from src.core.zips import read_location
from src.data.duplicates import group_duplicates, near_duplicates
from src.data.facts import Reading
from src.data.images import decode_image, resize


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """What to plant, and in which images."""

    competition: str = "food11"
    images: int = 4000
    planted: int = 300
    """Number of planted duplicates of each kind."""
    image_size: tuple[int, int] | None = None
    seed: int = 0
    sheet: Path | None = None
    """File to draw the pairs of originals to."""
    input_dir: Path = Path("input")


def _resized(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    share = rng.uniform(0.5, 0.9)
    height, width = (max(8, round(side * share)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _re_encoded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(30, 80))
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def _hflipped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    high, wide = round(0.95 * height), round(0.95 * width)
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    return np.ascontiguousarray(image[top : top + high, left : left + wide])


def _cropped_each_side(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    high, wide = (round(0.05 * side) for side in image.shape[:2])
    return np.ascontiguousarray(image[high : image.shape[0] - high, wide : image.shape[1] - wide])


def _all_combined(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _re_encoded(_cropped(_hflipped(image, rng), rng), rng)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "resized to 50-90%": _resized,
    "re-encoded, JPEG quality 30-80": _re_encoded,
    "flipped": _hflipped,
    "cropped by 5% of each axis": _cropped,
    "cropped by 5% on every side": _cropped_each_side,
    "flipped, cropped by 5%, re-encoded": _all_combined,
}


def originals(config: DuplicatesConfig, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return images at full size and at the cache's size, in random order."""
    competition = load_competition(config.competition)
    files = InputFiles(config.input_dir / competition.input_folder, competition.source)
    paths = sorted(competition.with_heads_of(files).read_train(files)["image_path"])
    chosen = [paths[index] for index in rng.permutation(len(paths))[: config.images]]
    full = [
        files.pixels[path] if path in files.pixels else decode_image(read_location(files.located[path]))
        for path in chosen
    ]
    size = config.image_size or competition.image_size
    return full, [resize(np.ascontiguousarray(image), size) for image in full]


def _draw(path: Path, images: list[np.ndarray], pairs: list[tuple[int, int]]) -> None:
    rows = [np.concatenate([images[one], images[other]], axis=1) for one, other in pairs[:60]]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % 6)
    sheet = np.concatenate([np.concatenate(rows[start : start + 6], axis=1) for start in range(0, len(rows), 6)])
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Originals at the cache's size, followed by the copies of some of them."""

    images: np.ndarray  # (N, H, W, 3) uint8
    num_originals: int
    sources: list[int]  # of each copy: its original; as many of each kind, in the order of KINDS


def plant(full: list[np.ndarray], images: list[np.ndarray], planted: int, rng: np.random.Generator) -> Planted:
    """Add copies, made from the full-size images, to the originals at the cache's size."""
    count, size, sources = len(images), images[0].shape[:2], []
    copies = []
    for kind in KINDS.values():
        for source in rng.permutation(count)[:planted]:
            copies.append(resize(kind(np.ascontiguousarray(full[source]), rng), size))
            sources.append(int(source))
    return Planted(images=np.stack([*images, *copies]), num_originals=count, sources=sources)


def score(planted: Planted, pairs: list[tuple[int, int]]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return which copies are in one group with their original, and the pairs of different originals joined."""
    count, group = planted.num_originals, group_duplicates(None, pairs, len(planted.images))
    origin = [*range(count), *planted.sources]
    joined = {(min(origin[one], origin[other]), max(origin[one], origin[other])) for one, other in pairs}
    return group[count:] == group[planted.sources], sorted((one, other) for one, other in joined if one != other)


def readings_of(planted: Planted) -> list[Reading]:
    """Return readings of images of which no two have the same pixels."""
    return [Reading("", "", str(row)) for row in range(len(planted.images))]


def main(config: DuplicatesConfig) -> None:
    """Plant, search, count and print."""
    rng = np.random.default_rng(config.seed)
    full, images = originals(config, rng)
    count, size, each = len(images), images[0].shape[:2], min(config.planted, len(images))
    planted = plant(full, images, each, rng)
    started = time.perf_counter()
    pairs = near_duplicates(readings_of(planted), planted.images)
    seconds = time.perf_counter() - started
    found, different = score(planted, pairs)
    print(f"{config.competition}, {count:,} originals at {size[0]}x{size[1]}, seed {config.seed}")
    for index, name in enumerate(KINDS):
        print(f"{name:36s} {found[index * each : (index + 1) * each].mean():.3f}")
    print(f"{'all planted':36s} {found.mean():.4f} of {len(found):,}")
    share = len(different) / count
    print(f"{'pairs of different originals joined':36s} {len(different)} ({share:.3%} of the originals)")
    print(f"{1e6 * seconds / len(planted.images):.0f} microseconds per image")
    if config.sheet and different:
        _draw(config.sheet, images, different)


if __name__ == "__main__":
    cli.run(main, DuplicatesConfig, __doc__)
