"""How much clients may ask for, and how they are told that it is too much."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

Receive = Callable[[], Awaitable[dict[str, Any]]]  # of ASGI

BODY_SECONDS = 60.0  # in which the next part of a request's body must arrive


class Overloaded(Exception):
    """A limit is reached; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for."""

    max_mb: float
    max_files: int
    max_waiting: int

    @property
    def max_bytes(self) -> int:
        return int(self.max_mb * 1e6)

    @property
    def too_large(self) -> str:
        return f"the request has more than {self.max_mb:g} MB"


class Places:
    """Limits concurrent requests; for one event loop, not for threads."""

    def __init__(self, most: int, what: str) -> None:
        """Allow `most`; `what` ends the message "8 ..."."""
        self.most, self.what, self.taken = most, what, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place. Raises Overloaded if none is free."""
        if self.taken >= self.most:
            raise Overloaded(f"{self.most} {self.what}")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Door:
    """ASGI middleware that refuses requests before their body is read.

    A body by its announced length, which FastAPI would refuse in plain text; and more requests with a body at a time
    than images may wait, since each carries at least one image. A client that stops in the middle of a body counts as
    gone after BODY_SECONDS, so that it does not hold its place.
    """

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.places = Places(limits.max_waiting, "requests are open")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        announced = dict(scope.get("headers", ())).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.limits.max_bytes:
            await problem(413, self.limits.too_large)(scope, receive, send)
        elif scope.get("method") != "POST":
            await self.app(scope, receive, send)
        else:
            try:
                with self.places.one():
                    await self.app(scope, _in_time(receive), send)
            except Overloaded as error:  # this one's: the application answers its own
                await busy(error)(scope, receive, send)


def _in_time(receive: Receive) -> Receive:
    """Return `receive` of a request, by which a client whose body does not go on has gone."""
    is_complete = False

    async def next_part() -> dict[str, Any]:
        nonlocal is_complete
        if is_complete:  # then it waits for the client to leave
            return await receive()
        try:
            part = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError:
            return {"type": "http.disconnect"}
        is_complete = not part.get("more_body", False)
        return part

    return next_part


def problem(status: int, detail: str, file: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error as JSON."""
    return JSONResponse({"detail": detail, "file": file}, status, headers)


def busy(error: Overloaded) -> JSONResponse:
    """Return a 503 that asks the client to try again."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}; try again in a second", headers={"Retry-After": "1"})
