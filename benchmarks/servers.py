"""Servers of files on the loopback for the benchmarks of remote caches: S3 (s3rver, moto) and HTTP (nginx)."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.core.errors import InputError

BUCKET = "podium"
KEY = "S3RVER"  # both S3 servers take it as id and secret
INSTALL = {
    "s3rver": "npm install --prefix DIR s3rver@3.7.1, and put DIR/node_modules/.bin on the PATH",
    "moto_server": "pip install 'moto[server]'",
    "nginx": "apt-get install nginx-light",
}
NGINX = """daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A running server: what --cache-url takes, where plain GETs find the same, and its commands' environment."""

    url: str
    plain: str  # http://127.0.0.1:port/folder
    environment: dict[str, str]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(kind: str, folder: Path, port: int) -> list[str]:
    if kind == "s3rver":
        return ["s3rver", "--directory", str(folder), "--port", str(port), "--configure-bucket", BUCKET]
    if kind == "moto":
        return ["moto_server", "--port", str(port)]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    (folder / "www").mkdir()
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise InputError(f"no server answers on port {port}")


def _upload(paths: Sequence[Path], server: Server) -> None:
    """Copy files and folders to the bucket, as any S3 client would."""
    from fsspec import filesystem

    os.environ.update(server.environment)
    files = filesystem("s3", endpoint_url=server.environment["AWS_ENDPOINT_URL"])
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    for path in paths:
        files.put(str(path), f"{BUCKET}/{path.name}", recursive=path.is_dir())


@contextmanager
def serving(kind: str, *paths: Path) -> Iterator[Server]:
    """Run a server that has these files and folders (nginx: files). Raises InputError if it is not installed."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers run as another user
        command = _command(kind, folder, port)
        if not shutil.which(command[0]):
            raise InputError(f"{command[0]} is not installed: {INSTALL[command[0]]}")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port)
            host = f"http://127.0.0.1:{port}"
            if kind == "nginx":
                for path in paths:
                    shutil.copy(path, folder / "www" / path.name)
                yield Server(url=host, plain=host, environment={})
                return
            keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "us-east-1"}
            server = Server(f"s3://{BUCKET}", f"{host}/{BUCKET}", {**keys, "AWS_ENDPOINT_URL": host})
            _upload(paths, server)
            yield server
        finally:
            process.terminate()
            process.wait()


@contextmanager
def loopback_of(mbit: float) -> Iterator[None]:
    """Let the loopback carry only so many Mbit/s, as a network between machines would; 0: as it is. Needs root and tc.

    Raises InputError if that is not possible.
    """
    if not mbit:
        yield
        return
    shape = [
        "tc",
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "tbf",
        "rate",
        f"{mbit:g}mbit",
        "burst",
        "1mb",
        "latency",
        "50ms",
    ]
    try:
        subprocess.run(shape, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError("--mbit: needs root and tc (apt-get install iproute2)") from error
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
