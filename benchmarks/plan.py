"""Plan a training of many images on many GPUs: hours, cost, readers, bandwidth and the first bottleneck.

    python -m benchmarks.plan --gpu-rate 2500 --gpu-price 2.5             # a table; bench prints the rate of your GPU
    python -m benchmarks.plan --gpu-rate 2500 --gpu-price 2.5 --picture   # docs/plan.png too
    python -m benchmarks.plan --check             # the model against what this machine does; 10 minutes on 2 cores

Rates and prices are yours to measure or look up; defaults of the rest are measured on the project's own machine
(benchmarks/results/) or, for links and storage, typical figures. The model is in benchmarks/plan_model.py. --picture
needs matplotlib (requirements-dev.txt).
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan_model import Job, Machine, Plan, plan, prepare_seconds
from src.core import cli
from src.core.errors import InputError

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "plan.png"
GREY = "#808080"  # legible on white and on black
GBIT, GBYTE = 1e9 / 8, 1e9


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What is trained, on which machines, at which prices."""

    images: tuple[int, ...] = (10_000_000, 1_000_000_000)
    """Numbers of training images."""
    gpus: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    epochs: int = 24
    image_size: tuple[int, int] = (64, 128)
    """Height and width in the cache: height x width x 3 bytes an image are read in each epoch."""
    gpu_rate: float | None = None
    """Images/s of one GPU: the line "step" of python -m src.bench."""
    gpu_price: float | None = None
    """Dollars per GPU and hour."""
    parameters: float = 3.4e6
    """Of the network; python -m src.summary prints them."""
    batch_per_gpu: int = 256
    gpus_per_machine: int = 8
    cores_per_machine: int = 96
    """All prepare batches if there are fewer than the GPUs' threads."""
    threads_per_gpu: int = 4
    """train's --num-threads."""
    loader_us: float = 83.0
    """CPU time of the loader, µs per image (benchmarks/results/loader.md: 64x128, augmented)."""
    inner_gbytes: float = 100.0
    """Gbyte/s between the GPUs of a machine."""
    network_gbits: float = 25.0
    """Gbit/s between machines."""
    storage_gbytes: float = 2.0
    """Gbyte/s that one machine reads from its disk, or fetches from a bucket: at most 0.35 a core that does so
    (benchmarks/results/remote.md)."""
    storage_limit_gbytes: float = 100.0
    """Gbyte/s that the storage gives to all machines together."""
    connection_mbytes: float = 50.0
    """Mbyte/s of one connection to a bucket."""
    prepare_us: float = 341.0
    """CPU time of prepare, µs per image (benchmarks/results/growth.md: a million of 24x24)."""
    core_price: float = 0.04
    """Dollars per core and hour, for prepare."""
    storage_price: float = 0.023
    """Dollars per Gbyte and month."""
    picture: bool = False
    """Draw docs/plan.png."""
    check: bool = False
    """Measure what the model says of this machine, and write benchmarks/results/plan.md."""
    rounds: int = 2
    """Of --check."""
    remote: tuple[float, float] | None = None
    """For --check: Mbyte/s of a bucket's server, and images/s of 64x128 that were read from it cold
    (benchmarks/results/remote.md)."""

    @property
    def bytes_per_image(self) -> int:
        return self.image_size[0] * self.image_size[1] * 3


def plans(config: PlanConfig, images: int) -> list[Plan]:
    """Return a plan for each number of GPUs. Raises InputError without a rate."""
    if config.gpu_rate is None or config.gpu_price is None:
        raise InputError("--gpu-rate and --gpu-price: give what you measured and what your GPUs cost")
    job = Job(
        images=images,
        epochs=config.epochs,
        bytes_per_image=config.bytes_per_image,
        batch_per_gpu=config.batch_per_gpu,
        gpu_rate=config.gpu_rate,
        gradient_bytes=4 * config.parameters,
    )
    machine = Machine(
        gpus=config.gpus_per_machine,
        cores=config.cores_per_machine,
        threads_per_gpu=config.threads_per_gpu,
        loader_us=config.loader_us,
        inner_bandwidth=config.inner_gbytes * GBYTE,
        network_bandwidth=config.network_gbits * GBIT,
        storage_bandwidth=config.storage_gbytes * GBYTE,
    )
    return [plan(job, machine, gpus, config.storage_limit_gbytes * GBYTE) for gpus in config.gpus]


def cost(config: PlanConfig, images: int, found: Plan) -> float:
    """Return dollars: GPUs for the training, cores for prepare, storage for both."""
    hours, prepare = found.seconds / 3600, prepare_seconds(images, config.prepare_us, 1) / 3600
    months = (hours + prepare / config.cores_per_machine) / 730
    gbytes = images * config.bytes_per_image / GBYTE
    return (
        found.gpus * (config.gpu_price or 0) * hours
        + config.core_price * prepare
        + (config.storage_price * gbytes * months)
    )


def duration(hours: float) -> str:
    """Return minutes, hours or days."""
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def table(config: PlanConfig, images: int) -> list[str]:
    """Return the lines of one number of images, as Markdown."""
    alone = prepare_seconds(images, config.prepare_us, 1) / 3600
    cores = config.cores_per_machine
    lines = [
        f"{images:,} images, {images * config.bytes_per_image / 1e12:,.2f} TB, {config.epochs} epochs; "
        f"prepare: {duration(alone)} on one core, {duration(alone / cores)} if {cores} share it",
        "",
        "| GPUs | time | dollars | images/s | first bottleneck | readers | from storage | connections |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in plans(config, images):
        connections = -(-found.bandwidth // (config.connection_mbytes * 1e6))
        dollars = cost(config, images, found)
        lines.append(
            f"| {found.gpus} | {duration(found.seconds / 3600)} | {dollars:,.0f} | {found.rate:,.0f} "
            f"| {found.bottleneck} | {found.readers:,} | {found.bandwidth / GBYTE:,.2f} GB/s | {connections:,.0f} |"
        )
    return lines


def draw(config: PlanConfig, path: Path) -> None:
    """Draw hours and dollars against GPUs, one line per number of images; a marker says what limits."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    markers = {"GPUs": "o", "gradients": "D", "loader": "s", "storage": "^"}
    figure, both = plt.subplots(1, 2, figsize=(10, 4.2))
    for number, images in enumerate(config.images):
        found, colour = plans(config, images), f"C{number}"
        hours = [each.seconds / 3600 for each in found]
        dollars = [cost(config, images, each) for each in found]
        both[0].plot(config.gpus, [hours[0] * config.gpus[0] / gpus for gpus in config.gpus], ":", color=GREY)
        for axes, values in zip(both, (hours, dollars), strict=True):
            axes.plot(config.gpus, values, color=colour, label=f"{images:,} images")
            for each, value in zip(found, values, strict=True):
                axes.plot(each.gpus, value, markers[each.bottleneck], color=colour, markersize=7)
    for axes, label in zip(both, ("hours of training", "dollars, prepare and storage included"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel=label)
        axes.set_xticks(config.gpus, [str(gpus) for gpus in config.gpus])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.tick_params(colors=GREY)
        axes.xaxis.label.set_color(GREY)
        axes.yaxis.label.set_color(GREY)
        axes.spines[:].set_color(GREY)
    limits = [Line2D([], [], marker=mark, color=GREY, ls="", label=f"limit: {name}") for name, mark in markers.items()]
    lines = [*both[0].get_lines()[1 :: len(config.gpus) + 2], Line2D([], [], ls=":", color=GREY, label="in proportion")]
    figure.legend(handles=[*lines, *limits], loc="upper center", ncols=4, labelcolor=GREY, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.87))
    figure.savefig(path, dpi=100, transparent=True)
    plt.close(figure)
    print(path)


def main(config: PlanConfig) -> None:
    """Print the plan. Raises InputError if the rate or the price is missing."""
    if config.check:
        from benchmarks.plan_check import check

        check(config.rounds, config.remote)
        return
    for images in config.images:
        print("\n".join(table(config, images)), end="\n\n")
    if config.picture:
        draw(config, PICTURE)


if __name__ == "__main__":
    cli.run(main, PlanConfig, __doc__)
