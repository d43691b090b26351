"""A cache on a server against the local file, and against what the server gives to plain requests (A B A B).

    python -m benchmarks.remote                              # s3rver, 1 GiB; about five minutes
    python -m benchmarks.remote --server nginx
    sudo -E python -m benchmarks.remote --server nginx --mbit 1000   # as over a network of 1 Gbit/s
    python -m benchmarks.remote --server moto --gib 0.125    # moto copies the whole object at each request

Each figure is an epoch of batches of 64, shuffled in blocks, without augmentation, in a fresh process: from the local
file; cold, when no block is on this machine; warm, when all are. "plain" fetches the same blocks by as many connections
with http.client and throws them away. Server and client share the machine. Servers: see benchmarks/servers.py.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np

from benchmarks.limited import SIZE, make_cache
from benchmarks.measuring import processor
from benchmarks.servers import Server, loopback_of, serving
from src.config import NO_AUGMENT
from src.core import cli
from src.data.loader import Loader
from src.data.pixels import Pixels, hash_blocks
from src.data.remote import CONNECTIONS, HEADER, Remote

WAYS = ("plain", "cold", "local", "warm")


@dataclass(frozen=True, kw_only=True)
class RemoteConfig:
    """How much to read, from which server."""

    server: Literal["s3rver", "moto", "nginx"] = "s3rver"
    gib: float = 1.0
    rounds: int = 4
    mbit: float = 0.0
    """What the loopback carries in Mbit/s (needs root and tc); 0: as fast as memory."""
    way: str = ""
    """Used by the script itself, as are the next ones."""
    folder: Path = Path()
    url: str = ""


def _plain(url: str, size: int, block: int) -> None:
    """Fetch a file's blocks by CONNECTIONS connections."""
    starts, parts = list(range(HEADER, size, block))[::-1], urlsplit(url)

    def fetch() -> None:
        connection = http.client.HTTPConnection(parts.netloc)
        while starts:
            try:
                start = starts.pop()
            except IndexError:
                return
            last = min(start + block, size) - 1
            connection.request("GET", f"{parts.path}/cache.npy", headers={"Range": f"bytes={start}-{last}"})
            assert len(connection.getresponse().read()) == last + 1 - start

    threads = [threading.Thread(target=fetch) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _measure(config: RemoteConfig) -> None:
    """Print the seconds of one epoch, and the processor's."""
    file = config.folder / "cache.npy"
    hashes = (config.folder / "hashes.txt").read_text().split()
    shape = np.load(file, mmap_mode="r").shape
    if config.way == "local":
        images = Pixels(file, shape, hashes, "")
    elif config.way != "plain":
        where = Remote(url=config.url, folder=config.folder / "blocks", limit=1 << 40)
        images = where.open("cache", shape, hashes)
    started, used = time.perf_counter(), time.process_time()
    if config.way == "plain":
        _plain(config.url, file.stat().st_size, (4 << 20) // (SIZE[0] * SIZE[1] * 3) * SIZE[0] * SIZE[1] * 3)
    else:
        rows = np.arange(shape[0])
        loader = Loader(
            images=images, rows=rows, targets=rows[:, None], image_size=SIZE, batch_size=64, policy=NO_AUGMENT,
            in_blocks=True,
        )  # fmt: skip
        served = sum(len(batch["index"]) for batch in loader.epoch(0))
        assert served == len(rows) // 64 * 64
    print(time.perf_counter() - started, time.process_time() - used)


def _seconds(config: RemoteConfig, way: str, folder: Path, server: Server) -> tuple[float, float]:
    url = server.plain if way == "plain" else server.url
    if way == "cold":
        shutil.rmtree(folder / "blocks", ignore_errors=True)
    flags = ["--way", way, "--folder", str(folder), "--url", url, "--server", config.server]
    command = [sys.executable, "-m", "benchmarks.remote", *flags]
    environment = {**os.environ, **server.environment}
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    wall, processor_time = map(float, ended.stdout.split())
    return wall, processor_time


def _show(name: str, values: list[float], unit: str = "") -> None:
    print(f"{name}: {np.median(values):,.2f}{unit} ({', '.join(f'{value:,.2f}' for value in values)})")


def main(config: RemoteConfig) -> None:
    """Print MiB/s of each way and the ratios by round."""
    if config.way:
        _measure(config)
        return
    count = int(config.gib * 2**30 / (SIZE[0] * SIZE[1] * 3))
    limit = f" limited to {config.mbit:g} Mbit/s" if config.mbit else ""
    print(
        f"{processor()}; {config.server}{limit}; {count:,} images of {SIZE[0]}x{SIZE[1]}, {config.gib} GiB", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), []
        make_cache(folder / "cache.npy", count)
        hashes = hash_blocks(np.load(folder / "cache.npy", mmap_mode="r"))
        (folder / "hashes.txt").write_text("\n".join(hashes))
        with serving(config.server, folder / "cache.npy") as server, loopback_of(config.mbit):
            for _ in range(config.rounds):
                found.append({way: _seconds(config, way, folder, server) for way in WAYS})
    mib = config.gib * 1024
    for way in WAYS:
        _show(f"{way:5} MiB/s", [mib / times[way][0] for times in found])
        _show(f"{way:5} processor time, ms per MiB", [1000 * times[way][1] / mib for times in found])
    _show("cold / plain", [times["plain"][0] / times["cold"][0] for times in found])
    _show("warm / local", [times["local"][0] / times["warm"][0] for times in found])


if __name__ == "__main__":
    cli.run(main, RemoteConfig, __doc__)
