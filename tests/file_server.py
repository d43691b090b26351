"""A small HTTP server of the files of a folder, by ranges, that can be made to fail as servers and networks do."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[["Handler", bytes], None]  # called instead of answering a request normally


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD with Range."""

    protocol_version = "HTTP/1.1"
    server: "FileServer"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.server.gone:
            self.close_connection = True
            return
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.answer(404, b"")
            return
        data, code = path.read_bytes(), 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            data, code = data[int(first) : int(last) + 1], 206
        if not body:
            self.answer(200, b"", len(data))
            return
        self.server.asked.append((self.path, wanted or ""))
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault:
            fault(self, data)
        else:
            self.answer(code, data)

    def answer(self, code: int, data: bytes, length: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)


def refuses(handler: Handler, data: bytes) -> None:
    """Answer with an error of the server."""
    handler.answer(503, b"busy")


def cuts(handler: Handler, data: bytes) -> None:
    """Announce the whole body, send half of it and hang up."""
    handler.answer(206, data[: len(data) // 2], len(data))
    handler.close_connection = True


def shortens(handler: Handler, data: bytes) -> None:
    """Send half of the body as if it were all."""
    handler.answer(206, data[: len(data) // 2])


def flips(handler: Handler, data: bytes) -> None:
    """Send a body with one changed bit."""
    handler.answer(206, bytes([data[0] ^ 1]) + data[1:])


def hangs_up(handler: Handler, data: bytes) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


class QuietServer(ThreadingHTTPServer):
    """A server on the loopback that says nothing of clients that went away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@contextmanager
def running(server: QuietServer) -> Iterator[None]:
    """Run a server in a thread until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FileServer(QuietServer):
    """Serves a folder on the loopback; `faults` are used up by the next requests, `asked` lists what was asked for."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder, self.gone = folder, False
        self.faults: deque[Fault | None] = deque()
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def blocks_asked(self) -> list[str]:
        """Return the files and ranges that were asked for, without the headers."""
        return [f"{path} {wanted}" for path, wanted in self.asked if wanted != "bytes=0-127"]


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[FileServer]:
    """Run a server in a thread until the end of the block; it can be started again on the same port."""
    server = FileServer(folder, port)
    with running(server):
        try:
            yield server
        finally:
            server.gone = True  # open connections end too
