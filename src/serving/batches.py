"""Images of all clients, predicted together: what waits when a batch is done is the next batch."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from src.serving.limits import Overloaded

MAX_BATCH = 64  # images predicted at a time, so that one client's many do not hold up the others

Waiting = tuple[np.ndarray, asyncio.AbstractEventLoop, "asyncio.Future[np.ndarray]"]


class Batches:
    """One thread that predicts whatever waits; `predict` maps images (N, H, W, C) to predictions (N, num_outputs)."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], max_waiting: int) -> None:
        self.predict, self.max_waiting = predict, max_waiting
        self.waiting: deque[Waiting] = deque()
        self.changed = threading.Condition()
        self.is_open = True
        self.thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self.thread.start()

    async def answer(self, images: np.ndarray) -> np.ndarray:
        """Return the predictions of some images, (N, num_outputs); if cancelled, what still waits is not predicted.

        Raises Overloaded.
        """
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        with self.changed:
            if not self.is_open:
                raise Overloaded("the server is stopping")
            if len(self.waiting) + len(images) > self.max_waiting:
                raise Overloaded(f"{len(self.waiting)} images are waiting")
            self.waiting.extend((image, loop, future) for image, future in zip(images, futures, strict=True))
            self.changed.notify()
        return np.stack(await asyncio.gather(*futures))

    def close(self) -> None:
        """Predict what waits, then end the thread."""
        with self.changed:
            self.is_open = False
            self.changed.notify()
        self.thread.join()

    def _next(self) -> list[Waiting]:
        """Take a batch from what waits, without images whose client has gone or was ended by uvicorn."""
        batch: list[Waiting] = []
        while self.waiting and len(batch) < MAX_BATCH:
            image, loop, future = self.waiting.popleft()
            if not future.done():
                batch.append((image, loop, future))
        return batch

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or not self.is_open)
                if not self.waiting:
                    return
                batch = self._next()
            if not batch:
                continue
            result: Any
            try:
                result = list(self.predict(np.stack([image for image, _, _ in batch])))
            except Exception as error:  # the clients get it as 500, the server goes on
                result = [error] * len(batch)
            for (_, loop, future), value in zip(batch, result, strict=True):
                loop.call_soon_threadsafe(_settle, future, value)


def _settle(future: "asyncio.Future[np.ndarray]", value: np.ndarray | Exception) -> None:
    if future.done():  # its client has gone
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
