"""Many clients at once against src.serve: latency, images per second, errors, memory.

    python -m src.serve --port 8000 &
    python -m benchmarks.serve_load --image one.png                   # 50 clients for a minute

Each client keeps one connection and sends its next image when the last one is answered. With --pid of the server its
memory is printed before and after.
"""

import http.client
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measuring import processor
from src.core import cli

BOUNDARY = "podium-load"


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """What to send, and where."""

    image: Path
    address: str = "http://127.0.0.1:8000"
    num_clients: int = 50
    seconds: float = 60.0
    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the clients saw."""

    latencies: list[float] = field(default_factory=list)  # seconds, of answered requests
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


def memory_of(pid: int) -> int:
    """Return the bytes that a process holds in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def body_of(image: bytes) -> bytes:
    """Return a multipart body of one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def load(address: str, image: bytes, num_clients: int, seconds: float) -> Load:
    """Send an image again and again from `num_clients` threads."""
    where, body, started = urlsplit(address), body_of(image), time.perf_counter()
    latencies: list[float] = []
    errors: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        while time.perf_counter() - started < seconds:
            begun = time.perf_counter()
            try:
                connection.request("POST", "/predict", body, headers)
                response = connection.getresponse()
                text = response.read()
            except OSError as error:
                errors.append(repr(error))
                connection.close()
                continue
            if response.status == 200:
                latencies.append(time.perf_counter() - begun)
            else:
                errors.append(text.decode())
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(latencies=latencies, errors=errors, seconds=time.perf_counter() - started)


def main(config: LoadConfig) -> None:
    """Print what the clients saw."""
    image = config.image.read_bytes()
    load(config.address, image, config.num_clients, min(5.0, config.seconds))  # warm-up
    before = memory_of(config.pid) if config.pid else 0
    found = load(config.address, image, config.num_clients, config.seconds)
    p50, p95, worst = np.quantile(found.latencies, [0.5, 0.95, 1.0]) * 1000
    print(f"{processor()}; {config.num_clients} clients for {found.seconds:.0f} s: {len(found.latencies):,} images, "
          f"{len(found.latencies) / found.seconds:.0f} images/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms, at most "
          f"{worst:.0f} ms, {len(found.errors)} errors {sorted(set(found.errors))[:3]}")  # fmt: skip
    if config.pid:
        after = memory_of(config.pid)
        print(f"memory of the server: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")


if __name__ == "__main__":
    cli.run(main, LoadConfig, __doc__)
