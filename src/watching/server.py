"""The page of a run, and a small server that keeps it up to date."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


def make_server(run: Path, listening: socket.socket) -> ThreadingHTTPServer:
    """Return a server of the run's page on a socket that listens already; it closes the socket."""
    server = _Server(listening.getsockname()[:2], _Handler, bind_and_activate=False)
    server.socket.close()
    server.socket, server.run = listening, run
    return server
