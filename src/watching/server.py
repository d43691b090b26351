"""The page of a run, and a small server that keeps it up to date."""

import errno
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from src.core.errors import InputError
from src.pages.page import as_json, line_chart, render
from src.watching.files import state_of

CHARTS = {  # column of log.csv: title and unit
    "loss": ("loss of training", ""),
    "score": ("score on held-out images", ""),
    "lr": ("learning rate", ""),
    "images_per_second": ("speed", "images/s"),
    "memory_mib": ("memory at most", "MiB"),
    "gpu_utilisation": ("GPU use", "share"),
}


def page(run: Path, live: bool) -> str:
    """Return the page as it is now; if `live`, it asks the server for news."""
    charts = {name: line_chart(title, "epoch", unit, {}, integers=True) for name, (title, unit) in CHARTS.items()}
    return render(
        "watch.html", title=f"{run.name} · {run.parent.name}", charts_of=charts, state=state_of(run), live=live
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    run: Path


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send("text/html; charset=utf-8", page(self.server.run, live=True))
        elif path == "/state.json":
            self._send("application/json", str(as_json(state_of(self.server.run))))
        else:
            self.send_error(404)

    def _send(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the page was closed meanwhile
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal free of a line per request."""


def open_server(run: Path, host: str, port: int) -> _Server:
    """Return a server that listens already. Raises InputError if it cannot."""
    try:
        server = _Server((host, port), _Handler)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: is in use; give another one, or 0 for a free one") from error
        raise InputError(f"--host {host} --port {port}: cannot listen there ({error})") from error
    server.run = run
    return server


def address_of(server: _Server) -> str:
    """Return the address to open in a browser on this machine."""
    host, port = server.server_address[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else str(host)  # nosec: only compared
    return f"http://{shown}:{port}/"
