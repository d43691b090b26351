"""What prepare alone does: decode the images into caches, on this machine or a Ray cluster."""

from functools import partial
from pathlib import Path

from src.config import PrepareConfig
from src.core.cluster import check_address, join_cluster
from src.core.machine import num_cores
from src.data.cache import ImageCache, build_cache
from src.data.crops import read_crops
from src.data.decoding import Engine, in_processes
from src.data.images import Decoding
from src.data.labels import Tables
from src.data.ray_decoding import on_ray


def open_engine(config: PrepareConfig) -> Engine:
    """Return how --engine decodes images. Raises InputError if there is no Ray, or no cluster."""
    check_address(config.engine, config.address)
    if config.engine == "ray":
        return partial(on_ray, ray=join_cluster(config.address))
    return partial(in_processes, num_processes=config.num_processes or num_cores())


def build_test_cache(
    config: PrepareConfig, engine: Engine, tables: Tables, folder: Path, size: tuple[int, int]
) -> ImageCache:
    """Decode the test images at (height, width) unless that is done already."""
    return _build(config, engine, tables, folder, size, "test")


def build_caches(
    config: PrepareConfig, engine: Engine, tables: Tables, folder: Path, size: tuple[int, int]
) -> tuple[ImageCache, ImageCache]:
    """Decode the train and test images at (height, width) unless that is done already; return both caches."""
    train = _build(config, engine, tables, folder, size, "train")
    return train, _build(config, engine, tables, folder, size, "test")


def _build(
    config: PrepareConfig, engine: Engine, tables: Tables, folder: Path, size: tuple[int, int], split: str
) -> ImageCache:
    competition, table = tables.competition, tables.labels if split == "train" else tables.test
    how = Decoding(config.max_pixels, config.resize or competition.resize, competition.bands, competition.depth)
    paths = list(dict.fromkeys(table["image_path"]))  # a test image may answer several ids
    train, crops = split == "train", read_crops(config.crops) if config.crops else None
    cache, decoded = build_cache(
        folder, split, paths, tables.files, size, engine=engine, how=how, shuffled=train, crops=crops,
        sized=train and "boxes" in table,
    )  # fmt: skip
    if crops:
        named = sum(path in crops.of_image for path in paths)
        print(f"{split}: {named:,} of {len(paths):,} images are cropped as {config.crops} says, the others whole")
    done = "decoded" if decoded else "cache is up to date"
    print(f"{split}: {len(paths):,} images at {size[0]}x{size[1]}, {done}", flush=True)
    return cache
