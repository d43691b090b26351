"""Decoding on a Ray cluster writes the same bytes, survives a lost node, and refuses a node that is not alike."""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from src.core.cluster import join_cluster
from src.core.errors import InputError
from src.core.zips import Location
from src.data import prepared as prepared_module
from src.data import ray_decoding
from src.data.cache import made_with
from src.data.decoding import Found, Jobs
from src.data.images import Decoding
from src.data.ray_decoding import read_shard
from tests.drawing import write_image
from tests.fixtures import DrawImage, MakeSvhn, Podium
from tests.helpers import snapshot_at

NODE = f"--engine ray: node {platform.node()}"


def test_without_ray_the_line_says_what_to_install(
    svhn: MakeSvhn, podium: Podium, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn(num_train=2, num_val=1, num_test=1)
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = podium("prepare", "--engine", "ray")
    assert (ended.code, ended.err) == (
        2, "error: --engine ray: Ray is not installed; pip install -r requirements-ray.txt\n"
    )  # fmt: skip


def test_an_unknown_engine_is_refused_with_the_known_ones(podium: Podium) -> None:
    ended = podium("prepare", "--engine", "dask")
    assert ended.code == 2
    for word in ("dask", "local", "ray"):
        assert word in ended.err


def test_a_task_refuses_a_node_whose_files_or_versions_are_not_the_drivers(
    tmp_path: Path, draw_image: DrawImage
) -> None:
    path = tmp_path / "1.png"
    write_image(path, draw_image(1))
    location, sizes, made = Location(str(path), "", path.stat().st_size, 0), {str(path): path.stat().st_size}, "8"
    with pytest.raises(InputError, match=f"{NODE} would decode otherwise than this machine"):
        read_shard([location], sizes, (24, 32), (10**6,), made)
    made = made_with(Decoding(10**6))
    images, found = read_shard([location, None], sizes, (24, 32), (10**6,), made)
    assert images[0].any()
    assert not images[1].any()
    assert [problem for problem, _, _, _ in found] == ["", "missing"]
    with pytest.raises(InputError, match=f"{NODE} has another file as {path}; share or copy the input folder"):
        read_shard([location], {str(path): 1}, (24, 32), (10**6,), made)
    path.unlink()
    with pytest.raises(InputError, match=f"{NODE} does not see {path}; share or copy the input folder"):
        read_shard([location], sizes, (24, 32), (10**6,), made)


def test_a_task_bounds_the_memory_of_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(ray_decoding, "read_one", lambda *_: resource.getrlimit(resource.RLIMIT_DATA))
    _, found = read_shard([None], {}, (2, 2), (10**6,), made_with(Decoding(10**6)))
    assert 0 < int(found[0][0]) < 64 << 30
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a Ray cluster of three nodes with one core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    import ray

    monkeypatch.setattr(ray_decoding, "MIN_SHARD", 4)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def written(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "cache").iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_on_a_ray_cluster_a_lost_node_changes_nothing(
    svhn: MakeSvhn, podium: Podium, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    root = svhn(num_train=80, num_val=20, num_test=20, packing=packing)
    if packing == "folder":
        (root / "mchar_train" / "000003.png").write_bytes(b"no image")
        (root / "mchar_train" / "000004.png").unlink()
    assert podium("prepare", "--num-processes", 1).code == 0
    runs, done = tmp_path / "runs" / "svhn", list[int]()
    before, caches = snapshot_at(runs).name, written(runs)
    runs.rename(tmp_path / "local")

    def losing_a_node(jobs: Jobs, ray: Any) -> Iterator[list[Found]]:
        for found in ray_decoding.on_ray(jobs, ray):
            if not done:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            done.append(len(found))
            yield found

    monkeypatch.setattr(prepared_module, "on_ray", losing_a_node)
    ended = podium("prepare", "--engine", "ray", "--address", cluster.address)
    assert (ended.code, ended.err) == (0, "")
    assert len(done) > 10
    assert len(cluster.worker_nodes) == 1
    assert snapshot_at(runs).name == before
    assert written(runs) == caches


@pytest.mark.slow
def test_a_node_without_the_input_folder_ends_in_one_line(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    np.save(file, np.zeros((300, 24, 32, 3), np.uint8))
    locations = [Location(f"/nowhere/{number}.png", "", 5, 0) for number in range(300)]
    with pytest.raises(InputError, match=f"{NODE} does not see /nowhere/.*png; share or copy the input folder"):
        list(ray_decoding.on_ray(Jobs(file, locations, Decoding(10**6)), join_cluster(cluster.address)))


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "no Ray cluster answers there"), ("head", "must be HOST:PORT, ray://HOST:PORT or auto")],
)
def test_an_address_without_a_cluster_is_one_line(
    svhn: MakeSvhn, podium: Podium, monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    svhn(num_train=2, num_val=1, num_test=1)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    ended = podium("prepare", "--engine", "ray", "--address", address)
    assert (ended.code, ended.err) == (2, f"error: --address {address}: {words}\n")
