"""Images of all clients in one batch, places, and clients that leave."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from src.core.modules import has_modules

pytestmark = pytest.mark.skipif(not has_modules("fastapi", "uvicorn"), reason="requirements-serve.txt is not installed")
if has_modules("fastapi", "uvicorn"):
    from fastapi import Request

    from src.serving import limits
    from src.serving.app import _while_connected
    from src.serving.batches import Batches
    from src.serving.limits import Door, Limits, Overloaded, Places
    from src.serving.uploads import Refused
    from tests.serving.asking import Response, call


class Gated:
    """Predicts the first value of each image as soon as `gate` is set; `sizes` are those of the batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        self.gate.wait(20)
        return images[:, :1]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_client_that_stops_in_the_middle_of_a_body_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    sent = [{"type": "http.request", "body": b"a", "more_body": True}]
    seen: list[str] = []

    async def receive() -> dict[str, Any]:
        return sent.pop() if sent else await asyncio.sleep(60, {})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    door = limits.Door(app, limits.Limits(max_mb=1, max_files=1, max_waiting=1))
    asyncio.run(door({"method": "POST"}, receive, None))
    assert seen == ["http.request", "http.disconnect"]
    assert door.places.taken == 0


def test_images_of_all_clients_are_predicted_together_and_too_many_are_told_to_wait() -> None:
    predict = Gated()
    batches = Batches(predict, max_waiting=5)

    async def ask() -> list[np.ndarray]:
        first = asyncio.create_task(batches.answer(np.zeros((1, 3))))
        await until(lambda: predict.sizes)
        others = [asyncio.create_task(batches.answer(np.full((1, 3), number))) for number in range(1, 6)]
        await until(lambda: len(batches.waiting) == 5)
        with pytest.raises(Overloaded, match="5 images are waiting"):
            await batches.answer(np.zeros((1, 3)))
        predict.gate.set()
        return await asyncio.gather(first, *others)

    found = asyncio.run(ask())
    assert [int(one[0, 0]) for one in found] == list(range(6))
    assert predict.sizes == [1, 5]
    batches.close()
    assert not batches.thread.is_alive()
    with pytest.raises(Overloaded, match="the server is stopping"):
        asyncio.run(batches.answer(np.zeros((1, 3))))


def test_images_of_clients_that_have_gone_are_not_predicted() -> None:
    predict = Gated()
    batches = Batches(predict, max_waiting=5)

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def ask() -> tuple[np.ndarray, np.ndarray]:
        first = asyncio.create_task(batches.answer(np.zeros((1, 3))))
        await until(lambda: predict.sizes)
        ended = asyncio.create_task(batches.answer(np.full((2, 3), 1)))
        other = asyncio.create_task(batches.answer(np.full((1, 3), 2)))
        await until(lambda: len(batches.waiting) == 3)
        ended.cancel()  # as uvicorn does when it stops
        with pytest.raises(Refused, match="the client has gone"):
            await _while_connected(Request({"type": "http"}, leave), batches.answer(np.full((2, 3), 3)))
        await until(ended.done)
        predict.gate.set()
        return await asyncio.gather(first, other)

    assert [int(one[0, 0]) for one in asyncio.run(ask())] == [0, 2]
    assert predict.sizes == [1, 1]
    batches.close()


def test_a_stop_does_not_wait_for_images_whose_clients_were_ended() -> None:
    predict = Gated()
    batches = Batches(predict, max_waiting=500)

    async def ask() -> None:
        tasks = [asyncio.create_task(batches.answer(np.zeros((100, 3)))) for _ in range(3)]
        await until(lambda: predict.sizes and len(batches.waiting) >= 200)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        predict.gate.set()
        await asyncio.to_thread(batches.close)

    asyncio.run(ask())
    assert len(predict.sizes) == 1


def test_an_error_in_the_network_reaches_its_clients_and_the_thread_goes_on() -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        if images[0, 0] < 0:
            raise RuntimeError("broken")
        return images

    batches = Batches(predict, max_waiting=5)
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(batches.answer(np.full((1, 1), -1)))
    assert asyncio.run(batches.answer(np.ones((2, 1)))).tolist() == [[1], [1]]
    batches.close()


def test_more_requests_than_images_may_wait_are_refused_before_their_body_is_read() -> None:
    held = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    door = Door(app, Limits(max_mb=1, max_files=1, max_waiting=2))

    async def ask() -> tuple[Response, Response, list[Response]]:
        first = [asyncio.create_task(call(door, "POST", "/predict", b"x")) for _ in range(2)]
        await until(lambda: door.places.taken == 2)
        refused, page = await call(door, "POST", "/predict", b"x"), await call(door, "GET", "/")
        held.set()
        answered = await asyncio.gather(*first)
        return refused, page, [*answered, await call(door, "POST", "/predict", b"x")]

    refused, page, answered = asyncio.run(ask())
    assert (refused.status, refused.answer["detail"]) == (503, "2 requests are open; try again in a second")
    assert refused.headers["retry-after"] == "1"
    assert [one.status for one in (page, *answered)] == [200] * 4


def test_a_place_is_free_again_after_an_error() -> None:
    places = Places(1, "clients look")
    with places.one(), pytest.raises(Overloaded, match="^1 clients look$"), places.one():
        pytest.fail("two at a time")
    with pytest.raises(RuntimeError), places.one():
        raise RuntimeError
    assert places.taken == 0
