"""A small HTTPS server of the files of a folder, with a certificate made on the spot, that can fail as servers do."""

import shutil
import ssl
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.file_server import QuietServer, running

Answer = Callable[["Handler", bytes], None]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Handler(BaseHTTPRequestHandler):
    """GET, by ranges; ETag is the file's length and first byte."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        self.server.asked.append((name, self.headers.get("Range", ""), self.headers.get("If-Range", "")))
        file = self.server.folder / name
        data = file.read_bytes() if file.is_file() else b""
        answers = self.server.answers.get(name)
        answer = answers.popleft() if answers else None
        if answer:
            answer(self, data)
        elif not file.is_file():
            self.send(404, b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>")
        else:
            self.whole_or_part(data)

    def etag(self, data: bytes) -> str:
        return f'"{len(data)}-{data[:1].hex()}"'

    def whole_or_part(self, data: bytes, sent: int | None = None) -> None:
        """Answer as servers do; only `sent` bytes of the body if given, and then hang up."""
        wanted, tag = self.headers.get("Range", ""), self.etag(data)
        headers, code, body = {"ETag": tag, "Accept-Ranges": "bytes"}, 200, data
        if wanted and self.headers.get("If-Range") == tag:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"], code, body = f"bytes {first}-{len(data) - 1}/{len(data)}", 206, data[first:]
        self.send(code, body, headers, sent)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True


def cuts(handler: Handler, data: bytes) -> None:
    """Send half of what was asked for and hang up."""
    handler.whole_or_part(data, len(data) // 2)


def busy(handler: Handler, data: bytes) -> None:
    handler.send(503, b"busy", {"Retry-After": "0"})


def ignores_range(handler: Handler, data: bytes) -> None:
    """Send the whole file, whatever was asked for, without an ETag."""
    handler.send(200, data)


def expired(handler: Handler, data: bytes) -> None:
    """Refuse as Alibaba's OSS does after a signed link's time."""
    handler.send(
        403,
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>AccessDenied</Code>\n  <Message>Request has expired.'
        b"</Message>\n  <Expires>2020-07-02T14:09:26.000Z</Expires>\n</Error>",
        {"Content-Type": "application/xml"},
    )


class Server(QuietServer):
    """Serves a folder on the loopback; `answers` of a file are used up by the next requests for it."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.answers: dict[str, deque[Answer]] = {}
        self.asked: list[tuple[str, str, str]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def will(self, name: str, *answers: Answer) -> None:
        self.answers[name] = deque(answers)


def make_certificate(path: Path) -> Path:
    """Write a new key and a certificate of 127.0.0.1 for one day into one file."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    more = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    subprocess.run([*command, *more, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    with open(path, "a") as stream:
        stream.write(Path(f"{path}.crt").read_text())
    return path


@contextmanager
def serving(folder: Path, certificate: Path) -> Iterator[Server]:
    """Run a server in a thread until the end of the block."""
    server = Server(folder, certificate)
    with running(server):
        yield server
