"""The ranks of one command before it begins: joined, all but rank 0 silenced, and checked for equal settings."""

import os
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.progress import Progress
from src.core.world import World, check_same, join_world
from src.runs.run import Run
from src.runs.versions import code_version

# Flags that may differ between machines: where their files and devices are.
OWN_FLAGS = ("input_dir", "submissions_dir", "weights", "device", "num_threads", "cache_on_device",
              "cache_local_gb", "cache_local_dir")  # fmt: skip


def join_ranks(config: Any, minutes: float = 10.0) -> World:
    """Join the processes that torchrun started with this command; only rank 0 prints from then on.

    A rank that waits longer than `minutes` for another one ends with an error. Raises InputError, on rank 0, if another
    rank has other flags or code.
    """
    world = join_world(timedelta(minutes=minutes))
    if not world.is_main:
        sys.stdout, Progress.silent = open(os.devnull, "w"), True  # noqa: SIM115
    flags = {name: value for name, value in asdict(config).items() if name not in OWN_FLAGS}
    check_same(world, {**flags, "code": code_version()})
    return world


def check_shared(folder: Path, world: World) -> None:
    """Raise InputError unless all ranks see the files that rank 0 writes into a folder."""
    if world.size == 1:
        return
    token = folder / f".ranks-{os.getpid()}"
    (name,) = set(world.all(token.name)[:1])

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        token.touch()

    def look() -> None:
        if not (folder / name).exists():
            raise InputError(f"{folder}: is not the folder that rank 0 writes to; share it over all machines")

    world.on_main(write)
    try:
        world.together(look)
    finally:
        if world.is_main:
            token.unlink()


def check_run(run: Run, world: World) -> None:
    """Raise InputError if ranks read other snapshots or settings."""
    check_same(world, {"snapshot": run.prepared.id, "run": run.record})


def check_batch(config: TrainConfig, world: World, num_images: int | None = None) -> None:
    """Raise InputError if a batch, of at most `num_images`, cannot be shared among the ranks."""
    if config.needs_whole_batch and world.size > 1:
        raise InputError(f"--loss {config.loss}: needs a whole batch at once; start one process, not several ranks")
    needed, size = 2 * config.accumulate * world.size, min(config.batch_size, num_images or config.batch_size)
    if size < needed:
        what = f"--batch-size {config.batch_size}" if size == config.batch_size else f"training images: {size}"
        who = (
            f"{world.size} ranks with {config.accumulate} micro-batches each need"
            if world.size > 1
            else "a training needs"
        )
        raise InputError(f"{what}; {who} at least {needed}, as batch norm needs 2 images at once")
