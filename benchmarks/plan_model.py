"""How long a training takes on so many GPUs, what it costs and what limits it: arithmetic on measured figures.

Images go through GPUs, loaders and storage at the same time, so the slowest of the three sets the pace. On the GPUs,
the step and the sum of gradients follow each other (src.core.world), so their seconds add up.
"""

import math
from dataclasses import dataclass

MICRO = 1e-6


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained."""

    images: int
    epochs: int
    bytes_per_image: int  # in the cache
    batch_per_gpu: int
    gpu_rate: float  # images/s of one GPU alone, forward, backward and optimizer
    gradient_bytes: float  # of all parameters


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine has; bandwidths in bytes/s."""

    gpus: int
    cores: int
    threads_per_gpu: int  # that prepare batches
    loader_us: float  # CPU time of a batch's preparation, µs per image
    inner_bandwidth: float  # between its GPUs
    network_bandwidth: float  # to other machines
    storage_bandwidth: float  # from its disk or the bucket


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training on so many GPUs. Rates are images/s of all machines together."""

    gpus: int
    machines: int
    gpu_rate: float  # of the GPUs, gradients summed
    loader_rate: float
    storage_rate: float
    sync_share: float  # of a step spent on the sum of gradients
    seconds: float
    readers: int  # loader threads that keep up with the GPUs
    bandwidth: float  # bytes/s from storage that keep up with the GPUs

    @property
    def rate(self) -> float:
        return min(self.gpu_rate, self.loader_rate, self.storage_rate)

    @property
    def bottleneck(self) -> str:
        """The first limit: what should be made faster."""
        if self.rate == self.storage_rate < self.gpu_rate:
            return "storage"
        if self.rate == self.loader_rate < self.gpu_rate:
            return "loader"
        return "gradients" if self.sync_share > 0.5 else "GPUs"


def sync_seconds(ranks: int, gradient_bytes: float, bandwidth: float) -> float:
    """Return the seconds of an all-reduce over a ring: each rank sends 2 (n - 1) / n of the gradients.

    Source: Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009. Latency is
    ignored.
    """
    return 2 * (ranks - 1) / ranks * gradient_bytes / bandwidth


def training_rate(ranks: int, batch_per_rank: float, rate: float, sync: float) -> float:
    """Return images/s of all ranks, given those of one alone and the seconds that a sum of gradients takes."""
    return ranks * batch_per_rank / (batch_per_rank / rate + sync)


def plan(job: Job, machine: Machine, gpus: int, storage_limit: float = math.inf) -> Plan:
    """Return the plan of a job. `storage_limit` (bytes/s) is what the storage gives to all machines together."""
    machines = -(-gpus // machine.gpus)
    link = machine.inner_bandwidth if machines == 1 else machine.network_bandwidth
    sync = sync_seconds(gpus, job.gradient_bytes, link)
    gpu_rate = training_rate(gpus, job.batch_per_gpu, job.gpu_rate, sync)
    threads = min(gpus * machine.threads_per_gpu, machines * machine.cores)
    loader_rate = threads / (machine.loader_us * MICRO)
    storage_rate = min(machines * machine.storage_bandwidth, storage_limit) / job.bytes_per_image
    rate = min(gpu_rate, loader_rate, storage_rate)
    return Plan(
        gpus=gpus,
        machines=machines,
        gpu_rate=gpu_rate,
        loader_rate=loader_rate,
        storage_rate=storage_rate,
        sync_share=sync / (job.batch_per_gpu / job.gpu_rate + sync),
        seconds=job.images * job.epochs / rate,
        readers=math.ceil(gpu_rate * machine.loader_us * MICRO),
        bandwidth=gpu_rate * job.bytes_per_image,
    )


def prepare_seconds(images: int, prepare_us: float, cores: int) -> float:
    """Return the seconds of prepare, if it scales with cores. Only decoding does so today: an optimistic figure."""
    return images * prepare_us * MICRO / cores
