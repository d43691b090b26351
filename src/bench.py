"""Measure what a training would cost: loader alone, step alone, both together, and how far each is from its limit.

    python -m src.bench --backbone resnet18 --image-size 64 128
    torchrun --nproc-per-node 2 -m src.bench --backbone resnet18      (images/s of all ranks together)
    python -m src.bench --competition cifar10 --backbone resnet_cifar --batch-size 128 --steps 10

Takes the flags of src.train; those that do not change the cost of a step are ignored. Needs no weights and no data
(images are synthetic), unless the classes are only known from the data: then prepare first. Writes nothing.
"""

from src.config import BenchConfig
from src.core import cli
from src.core.errors import InputError
from src.core.flags import check_range


def main(config: BenchConfig) -> dict[str, float]:
    """Print a table and return its figures. Raises InputError for flags that src.train would refuse."""
    import torch

    from src.core.runtime import choose_compute, in_world, set_up_process
    from src.data.prepared import known_competition
    from src.runs.ranks import check_batch, join_ranks
    from src.training.benchmark import limits, measure, parts_of
    from src.training.checks import check_flags

    set_up_process(config.deterministic)
    world = join_ranks(config, config.rank_timeout)
    competition = world.together(lambda: known_competition(config, or_else="use another --competition"))

    def check() -> None:
        check_flags(config, competition)
        check_range("steps", config.steps, 3)
        if config.freeze_backbone or config.progressive_resize < 1:
            raise InputError(
                "--freeze-backbone, --progressive-resize: only whole steps at one size are measured; leave them out"
            )
        check_batch(config, world)

    world.together(check)
    compute = world.together(lambda: in_world(choose_compute(config.device, config.precision), world))
    parts = parts_of(config, competition, compute)
    figures, most = measure(config, parts), limits(parts)
    name = torch.cuda.get_device_name() if compute.device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    height, width = parts.loader.image_size
    ranks = f"{world.size} ranks, each " if world.size > 1 else ""
    print(f"{config.backbone}, {height}x{width}, batch {config.batch_size}, {ranks}{name}, {compute.dtype}")
    for kind in ("loader", "step", "both", "inference"):
        share = f"{figures[kind] / most[kind]:.1%} of its limit" if kind in most else ""
        print(f"{kind:10} {figures[kind]:12,.0f} images/s  {share}".rstrip())
    print(f"waiting for data {figures['waiting']:.1%} of the time; peak memory {figures['memory_mib']:,.0f} MiB")
    print("limits: the loader's is copying memory, the others' a large matrix product, both as measured here")
    return figures


if __name__ == "__main__":
    cli.run(main, BenchConfig, __doc__)
