"""A sweep on a Ray cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.core.cluster import join_cluster
from src.core.signals import stop
from tests.fixtures import Podium
from tests.sweeping.sweeps import SET, prepared, weights
from tests.world import refused

__all__ = ["prepared"]
ROOT = Path(__file__).resolve().parents[2]


def test_flags_of_the_other_engine_are_refused(prepared: Path, podium: Podium) -> None:
    refused(podium("sweep", "--address", "host:1"), "--address host:1: is of --engine ray")
    refused(podium("prepare", "--address", "host:1"), "--address host:1: is of --engine ray")
    refused(podium("sweep", "--engine", "ray", "--tasks", 2), "--tasks: is of --engine local")


@pytest.mark.parametrize("address", ["10", "host", "host:port", ":1", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_one_line(
    prepared: Path, podium: Podium, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    ended = podium("sweep", "--set", "epochs=1", "--engine", "ray", "--address", address)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"error: --address {address}: " in ended.err


@pytest.mark.slow
def test_an_address_where_no_cluster_answers_is_one_line_within_half_a_minute(prepared: Path, podium: Podium) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        for port in (server.getsockname()[1], 1):
            started = time.monotonic()
            ended = podium("sweep", "--set", "epochs=1", "--engine", "ray", "--address", f"127.0.0.1:{port}")
            line = f"error: --address 127.0.0.1:{port}: no Ray cluster answers there\n"
            assert (ended.code, ended.err) == (2, line)
            assert time.monotonic() - started < 30


def test_ray_does_not_take_this_programs_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    taking = lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN)  # noqa: E731
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=taking))
    with stop.handled():
        own = signal.getsignal(signal.SIGTERM)
        join_cluster(None)
        assert signal.getsignal(signal.SIGTERM) == own


@pytest.mark.slow
def test_a_stopped_sweep_on_ray_lets_its_training_save_its_step(prepared: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "src.sweep", *map(str, SET), "epochs=500", "--engine", "ray", "--run-name", "s"]
    command.remove("epochs=2")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--fold", "0"], cwd=prepared, env=environment, text=True, stderr=subprocess.PIPE
    ) as sweep:
        while not list((prepared / "runs" / "svhn").glob("s-*/fold0/log.csv")):
            assert sweep.poll() is None
            time.sleep(0.05)
        sweep.terminate()
        _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 143, err
    assert "SIGTERM received" not in err
    assert json.loads((prepared / "runs/svhn/s-s0/fold0/status.json").read_text())["state"] == "stopped"


@pytest.mark.slow
def test_on_a_ray_cluster_a_lost_node_loses_nothing(prepared: Path, podium: Podium) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    assert podium("sweep", *SET, "lr=1e-3,2e-3,3e-3", "--run-name", "alone").code == 0
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    flags = [str(part) for part in (*SET, "lr=1e-3,2e-3,3e-3", "--engine", "ray", "--address", cluster.address)]
    command = [sys.executable, "-m", "src.sweep", *flags, "--run-name", "s"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=prepared, env=environment, text=True, stdout=subprocess.PIPE) as sweep:
        while not list((prepared / "runs" / "svhn").glob("s-*/fold*/log.csv")):
            assert sweep.poll() is None
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        sweep.communicate(timeout=300)
    cluster.shutdown()
    assert sweep.returncode == 0
    for lr in ("1e-3", "2e-3", "3e-3"):
        one, other = (weights(prepared / f"runs/svhn/{name}-lr{lr}-s0") for name in ("alone", "s"))
        assert one == other
