"""Compare prepare's search for near duplicates with faiss's indexes: copies found, false pairs, time and memory.

    pip install --target /tmp/faiss --no-deps faiss-cpu
    PYTHONPATH=/tmp/faiss python -m benchmarks.duplicates_faiss --competition svhn --images 4000
    PYTHONPATH=/tmp/faiss python -m benchmarks.duplicates_faiss --competition drawn --images 100000 --planted 1000

Only the step that finds the nearest neighbours of each image differs; what they are found by, and how two images are
compared afterwards, is the same. Each search runs in its own process on one core. "drawn" are random smooth images of
96x96 pixels, cached at 32x32, to measure more images than a competition has.
"""

import ctypes
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.duplicates import DuplicatesConfig, originals, plant, readings_of, score
from benchmarks.measuring import anonymous_bytes, processor, with_range
from src.core import cli
from src.data.candidates import MAX_CANDIDATES, MAX_DISTANCE, candidates
from src.data.duplicates import near_duplicates
from src.data.images import resize

BLOCK = 4096  # vectors looked up at a time
METHODS = ("hash tables", "flat", "ivf", "hnsw")
FULL, SMALL = 96, (32, 32)  # pixels of the drawn images


@dataclass(frozen=True, kw_only=True)
class FaissConfig(DuplicatesConfig):
    """What to plant, how often, and which searches to compare."""

    methods: tuple[str, ...] = METHODS
    """hash tables: prepare's own; flat: every pair (exact); ivf: inverted lists; hnsw: a graph."""
    seeds: tuple[int, ...] = (0, 1, 2)
    method: str = ""
    """Used by the script itself."""


def _drawn(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return images (FULL, FULL, 3) uint8 with coarse shapes and fine detail."""

    def layer(side: int, strength: float) -> np.ndarray:
        noise = rng.standard_normal((side, side, 3), dtype=np.float32) * strength
        return cv2.resize(noise, (FULL, FULL), interpolation=cv2.INTER_CUBIC)

    sides = ((3, 40.0), (6, 30.0), (14, 20.0), (30, 12.0))
    return [np.clip(sum(layer(*side) for side in sides) + 128, 0, 255).astype(np.uint8) for _ in range(count)]


def _index(faiss: Any, method: str, vectors: np.ndarray) -> Any:
    count, width = vectors.shape
    if method == "hnsw":
        index = faiss.IndexHNSWFlat(width, 16)
        index.hnsw.efSearch = 32
    elif method == "ivf":
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, int(4 * count**0.5))
        index.nprobe = 8
        index.cp.min_points_per_centroid = 1
        index.train(vectors[:: max(1, count // 100_000)])
    else:
        index = faiss.IndexFlatL2(width)
    index.add(vectors)
    return index


def _faiss_candidates(method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a search as `candidates` is one, by a faiss index over the vectors of the unflipped images."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)

    def search(vectors: np.ndarray, signs: np.ndarray) -> np.ndarray:
        index, count = _index(faiss, method, vectors), len(vectors)
        packed = [np.zeros(0, np.int64)]
        for start in range(0, count, BLOCK):
            block = vectors[start : start + BLOCK]
            rows = np.arange(start, start + len(block))[:, None]
            found = [index.search(queries, MAX_CANDIDATES + 1) for queries in (block, block * signs)]
            distance = np.concatenate([distance for distance, _ in found], axis=1)
            others = np.concatenate([others for _, others in found], axis=1)
            flipped = np.arange(others.shape[1]) > MAX_CANDIDATES
            distance[(others < 0) | (others == rows) | (distance >= MAX_DISTANCE**2)] = np.inf
            nearest = np.argsort(distance, axis=1)[:, :MAX_CANDIDATES]
            kept = np.take_along_axis(distance, nearest, axis=1) < np.inf
            other = np.take_along_axis(others, nearest, axis=1)[kept]
            one = np.broadcast_to(rows, nearest.shape)[kept]
            low, high = np.minimum(one, other), np.maximum(one, other)
            packed.append((low * count + high) * 2 + flipped[nearest][kept])
        return np.unique(np.concatenate(packed))

    return search


class _Memory:
    """The peak of this process's anonymous memory while it is open, beyond what there was before, in MiB."""

    def __enter__(self) -> "_Memory":
        self.before = self.peak = anonymous_bytes()
        self.open = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False
        self.thread.join()

    @property
    def added(self) -> float:
        return (self.peak - self.before) / 2**20

    def _watch(self) -> None:
        while self.open:
            self.peak = max(self.peak, anonymous_bytes())
            time.sleep(0.01)


def _measure(config: FaissConfig) -> None:
    """Print one search's results as JSON."""
    rng = np.random.default_rng(config.seed)
    if config.competition == "drawn":
        full = _drawn(config.images, rng)
        images = [resize(image, SMALL) for image in full]
    else:
        full, images = originals(config, rng)
    planted = plant(full, images, min(config.planted, len(images)), rng)
    del full, images
    result: dict[str, float] = {}

    def timed(vectors: np.ndarray, signs: np.ndarray) -> np.ndarray:
        search = candidates if config.method == "hash tables" else _faiss_candidates(config.method)
        ctypes.CDLL(None).malloc_trim(0)  # else the search would use what the images have left
        with _Memory() as memory:
            started = time.perf_counter()
            pairs = search(vectors, signs)
            result["us"] = 1e6 * (time.perf_counter() - started) / len(vectors)
        result["bytes"] = memory.added * 2**20 / len(vectors)
        result["candidates"] = len(pairs) / len(vectors)
        return pairs

    found, different = score(planted, near_duplicates(readings_of(planted), planted.images, timed))
    print(json.dumps({"recall": found.mean(), "false": len(different), "images": len(planted.images), **result}))


def main(config: FaissConfig) -> None:
    """Print a Markdown table: medians over the seeds, and ranges."""
    if config.method:
        _measure(config)
        return
    faiss = importlib.import_module("faiss")
    print(
        f"{config.competition}, {config.images:,} originals, {config.planted} copies of each kind, "
        f"seeds {config.seeds}; {processor()}, faiss {faiss.__version__}, numpy {np.__version__}"
    )
    print("| search | copies found | false pairs | candidates an image | µs an image | bytes an image |")
    print("|---|---|---|---|---|---|")
    for method in config.methods:
        rows = []
        for seed in config.seeds:
            flags = [f"--{name}={getattr(config, name)}" for name in ("competition", "images", "planted")]
            flags += [f"--method={method}", f"--seed={seed}", f"--input-dir={config.input_dir}"]
            command = [sys.executable, "-m", "benchmarks.duplicates_faiss", *flags]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            rows.append(json.loads(done.stdout))
        cells = []
        for name, form in (("recall", ".4f"), ("false", ".0f"), ("candidates", ".2f"), ("us", ".0f"), ("bytes", ".0f")):
            values = [row[name] for row in rows]
            cells.append(with_range(values, form))
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    cli.run(main, FaissConfig, __doc__)
