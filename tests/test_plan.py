"""The plan's arithmetic, by hand-worked cases."""

import dataclasses

import pytest

from benchmarks.plan import PlanConfig, cost, plans, table
from benchmarks.plan_model import Job, Machine, plan, sync_seconds, training_rate
from src.core.errors import InputError

JOB = Job(images=1_000_000, epochs=2, bytes_per_image=1000, batch_per_gpu=100, gpu_rate=1000.0, gradient_bytes=1e8)
MACHINE = Machine(
    gpus=4,
    cores=8,
    threads_per_gpu=4,
    loader_us=1000.0,
    inner_bandwidth=1.5e10,
    network_bandwidth=1.75e9,
    storage_bandwidth=6e6,
)


def test_a_sum_of_gradients_over_a_ring_sends_almost_twice_their_bytes() -> None:
    assert sync_seconds(1, 1e8, 1e9) == 0
    assert sync_seconds(2, 1e8, 1e9) == pytest.approx(0.1)
    assert sync_seconds(4, 1e8, 1e9) == pytest.approx(0.15)


def test_the_seconds_of_step_and_sum_add_up() -> None:
    assert training_rate(2, 100, 1000, 0.1) == pytest.approx(2 * 100 / 0.2)


def test_a_hand_worked_plan() -> None:
    one = plan(JOB, MACHINE, 1)
    assert (one.gpu_rate, one.loader_rate, one.storage_rate) == pytest.approx((1000, 4000, 6000))
    assert (one.bottleneck, one.seconds, one.readers, one.bandwidth) == ("GPUs", 2000, 1, 1e6)
    four = plan(JOB, MACHINE, 4)  # step 100 ms, sum 1.5 * 1e8 / 1.5e10 = 10 ms; 8 cores for 16 threads
    assert four.gpu_rate == pytest.approx(400 / 0.11)
    assert four.loader_rate == pytest.approx(8000)
    assert four.bottleneck == "GPUs"
    eight = plan(JOB, MACHINE, 8)  # sum 1.75 * 1e8 / 1.75e9 = 100 ms, as long as the step
    assert (eight.machines, eight.gpu_rate) == (2, pytest.approx(4000))
    assert eight.sync_share == pytest.approx(0.5)
    assert plan(JOB, MACHINE, 8, storage_limit=3e6).bottleneck == "storage"
    assert plan(JOB, dataclasses.replace(MACHINE, loader_us=8000.0), 8).bottleneck == "loader"
    assert plan(dataclasses.replace(JOB, gradient_bytes=2e8), MACHINE, 8).bottleneck == "gradients"


def test_dollars_are_those_of_gpus_cores_and_storage() -> None:
    config = PlanConfig(
        images=(1_000_000,), gpus=(1,), epochs=1, gpu_rate=1e6 / 7200, gpu_price=3.0, prepare_us=3600.0,
        core_price=0.5, cores_per_machine=1, storage_price=0.0,
    )  # fmt: skip
    (found,) = plans(config, 1_000_000)
    assert cost(config, 1_000_000, found) == pytest.approx(2 * 3 + 1 * 0.5)
    stored = dataclasses.replace(config, storage_price=730.0)  # a dollar per Gbyte and hour, for 3 hours
    assert cost(stored, 1_000_000, found) == pytest.approx(6.5 + 3 * 24.576)
    assert "| 1 | 2.0 h | 6 | 139 | GPUs |" in table(config, 1_000_000)[-1]


def test_without_a_rate_and_a_price_there_is_no_plan() -> None:
    with pytest.raises(InputError, match="--gpu-rate and --gpu-price"):
        plans(PlanConfig(gpu_rate=1.0), 10)
