"""Requests to the application itself, without a socket."""

import asyncio
import json
from typing import Any, NamedTuple


class Response(NamedTuple):
    """What came back: JSON or text."""

    status: int
    answer: Any
    headers: dict[str, str]


def form(**files: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body of files, and its headers."""
    parts = [
        b'--limit\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in files.items()
    ]
    return b"".join(parts) + b"--limit--\r\n", {"content-type": "multipart/form-data; boundary=limit"}


async def call(app: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
    """Send a request straight to an application."""
    sent: list[dict[str, Any]] = []
    chunks = [body[start : start + 4096] for start in range(0, len(body), 4096)] or [b""]

    async def receive() -> dict[str, Any]:
        if not chunks:  # the client stays until it is answered
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    given = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], json.loads(text) if text.startswith("{") else text, given)


def get(app: Any, path: str) -> Response:
    """Send a GET."""
    return asyncio.run(call(app, "GET", path))


def post(app: Any, path: str, body: bytes, headers: dict[str, str]) -> Response:
    """Send a POST."""
    return asyncio.run(call(app, "POST", path, body, headers))
