"""The ranks of one training before it begins: joined, silenced but for the first, and checked to be alike."""

import os
import sys
from dataclasses import asdict

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.progress import Progress
from src.core.world import World, check_same, join_world
from src.runs.run import Run
from src.runs.versions import code_version

# Flags that may differ between machines: where their files and devices are.
OWN_FLAGS = ("input_dir", "submissions_dir", "weights", "device", "num_threads", "cache_on_device")


def join_ranks(config: TrainConfig) -> World:
    """Join the processes that torchrun started; only rank 0 prints from then on.

    Raises InputError, on rank 0, if another rank has other flags or code, or another runs/ folder.
    """
    world = join_world()
    if not world.is_main:
        sys.stdout, Progress.silent = open(os.devnull, "w"), True  # noqa: SIM115
    flags = {name: value for name, value in asdict(config).items() if name not in OWN_FLAGS}
    check_same(world, {**flags, "code": code_version()})
    if world.size > 1:
        _check_shared(config, world)
    return world


def _check_shared(config: TrainConfig, world: World) -> None:
    """Raise InputError unless all ranks see the files that rank 0 writes."""
    token = config.runs_dir / f".ranks-{os.getpid()}"
    (name,) = set(world.all(token.name)[:1])

    def write() -> None:
        config.runs_dir.mkdir(parents=True, exist_ok=True)
        token.touch()

    def look() -> None:
        if not (config.runs_dir / name).exists():
            raise InputError(f"{config.runs_dir}: is not the folder that rank 0 writes to; share it over all machines")

    world.on_main(write)
    try:
        world.together(look)
    finally:
        if world.is_main:
            token.unlink()


def check_run(config: TrainConfig, run: Run, world: World) -> None:
    """Raise InputError if ranks read other snapshots or settings, or the batch cannot be shared among them."""
    check_same(world, {"snapshot": run.prepared.id, "run": run.record})
    if world.size > 1 and config.batch_size < 2 * config.accumulate * world.size:
        raise InputError(
            f"--batch-size {config.batch_size}: {world.size} ranks with {config.accumulate} micro-batches each need at "
            f"least {2 * config.accumulate * world.size}, as batch norm needs 2 images at once"
        )
