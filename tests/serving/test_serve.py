"""serve: the answers of predict, clear refusals, batches over clients, a page that works, a clean stop."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.config import ServeConfig
from src.core.modules import has_modules
from src.data.images import ImageProblem, decode_image
from src.serving.batches import Batches, Overloaded
from src.serving.uploads import refusal_of
from tests.browser import check_widths, needs_browser, opened
from tests.fixtures import Finished
from tests.world import refused, run_command

pytestmark = pytest.mark.skipif(not has_modules("fastapi", "uvicorn"), reason="requirements-serve.txt is not installed")
ROOT = Path(__file__).resolve().parents[2]


def test_a_request_that_could_never_be_answered_is_refused_at_the_start(tmp_path: Path) -> None:
    refused(run_command(tmp_path, "serve", "--max-waiting", 4, "--max-files", 8), "--max-waiting 4: is less than one")


def form(**files: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body of files, and its headers."""
    parts = [
        b'--limit\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in files.items()
    ]
    return b"".join(parts) + b"--limit--\r\n", {"content-type": "multipart/form-data; boundary=limit"}


async def _call(app: Any, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []
    chunks = [body[start : start + 4096] for start in range(0, len(body), 4096)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "http_version": "1.1",
        "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def call(app: Any, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send a request (POST with a body) straight to an application; return the status and JSON or text."""
    import json

    status, data = asyncio.run(_call(app, "POST" if headers is not None else "GET", path, body, headers or {}))
    text = data.decode()
    return status, json.loads(text) if text.startswith("{") else text


@pytest.fixture(scope="module")
def served(finished_world: Path) -> Iterator[Any]:
    """Return the application of a finished run, with small limits."""
    from src.serving.answering import open_answerer
    from src.serving.app import Limits, make_app

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_world)
        answerer = open_answerer(ServeConfig(device="cpu", max_pixels=100_000))
        yield make_app(answerer, Limits(max_mb=0.1, max_files=4, max_waiting=8), answerer.facts())


def test_answers_are_those_of_predict(served: Any, finished_world: Path) -> None:
    folder = finished_world / "submissions" / "svhn"
    expected = pd.read_csv(folder / "baseline.csv", dtype=str)
    images = finished_world / "input" / "svhn" / "mchar_test_a"
    status, answer = call(
        served, "/predict", *form(**{name: (images / name).read_bytes() for name in expected["file_name"]})
    )
    assert status == 200
    assert [one["answer"] for one in answer["images"]] == expected["file_code"].tolist()
    assert [one["file"] for one in answer["images"]] == expected["file_name"].tolist()
    assert all(one["saliency"] is None for one in answer["images"])
    with np.load(folder / "baseline.npz") as kept:
        rows = kept["probabilities"].reshape(3, 6, 11)
    for one, row in zip(answer["images"], rows, strict=True):
        for head, shares in zip(one["heads"], row, strict=True):
            assert head["probabilities"][0]["probability"] == pytest.approx(shares.max(), abs=1e-5)


def test_saliency_is_a_picture_of_the_size_that_the_network_sees(served: Any, finished_world: Path) -> None:
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    _, answer = call(served, "/predict?saliency=true", *form(a=image))
    head, _, data = answer["images"][0]["saliency"].partition(",")
    assert head == "data:image/png;base64"
    assert decode_image(base64.b64decode(data)).shape == (32, 48, 3)


def test_requests_that_cannot_be_answered_are_a_4xx_that_says_why(
    served: Any, finished_world: Path, png_header: Callable[[int, int], bytes]
) -> None:
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    plain = {"content-type": "text/plain"}
    cases = [
        (form(a=b""), 422, "a: empty"),
        (form(a=b"hello"), 415, "a: not an image"),
        (form(good=image, a=image[:200]), 422, "a: truncated"),
        (form(a=png_header(400, 400)), 413, "a: over-large: 400x400 pixels, the limit is 100,000"),
        (form(a=png_header(60_000, 60_000)), 413, "a: over-large"),
        (form(a=bytes(200_000)), 413, "more than 0.1 MB"),
        (form(**{f"f{i}": image for i in range(5)}), 413, "5 files"),
        (form(), 422, "no images"),
        ((b"{}", plain), 415, "content type text/plain; send images as multipart/form-data"),
        ((image, {"content-type": "multipart/form-data"}), 400, "boundary"),
        ((b"x", {**plain, "content-length": "999999999"}), 413, "more than 0.1 MB"),
    ]
    for (body, headers), status, text in cases:
        found, answer = call(served, "/predict", body, headers)
        assert found == status, (answer, text)
        assert text in answer["detail"]
    assert call(served, "/nothing")[0] == 404
    assert refusal_of(ImageProblem("unfit", "5 channels"), "x").status == 422


def test_the_pages_load_nothing_from_elsewhere(served: Any) -> None:
    for path in ("/", "/docs"):
        status, text = call(served, path)
        assert status == 200
        assert 'src="http' not in text
        assert "//cdn" not in text
    status, schema = call(served, "/openapi.json")
    assert {"200", "413", "415", "422", "503"} <= set(schema["paths"]["/predict"]["post"]["responses"])


def test_images_of_all_clients_are_predicted_together_and_too_many_are_told_to_wait() -> None:
    sizes, gate = [], threading.Event()

    def predict(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        gate.wait(5)
        return images[:, :1]

    batches = Batches(predict, max_waiting=5)

    async def ask() -> list[np.ndarray]:
        first = asyncio.create_task(batches.answer(np.zeros((1, 3))))
        while not sizes:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.answer(np.full((1, 3), number))) for number in range(1, 6)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await batches.answer(np.zeros((1, 3)))
        gate.set()
        return await asyncio.gather(first, *others)

    found = asyncio.run(ask())
    assert [int(one[0, 0]) for one in found] == list(range(6))
    assert sizes == [1, 5]
    batches.close()
    assert not batches.thread.is_alive()


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


def test_a_port_that_is_taken_and_a_missing_extra_are_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.core import modules
    from src.serving.listening import listen

    with listen("127.0.0.1", 0) as (socket, address):
        assert address.startswith("http://127.0.0.1:")
        port = socket.getsockname()[1]
        refused(
            run_command(world, "serve", "--port", port, "--no-tta"), f"--port {port}: another program listens there"
        )
    monkeypatch.setattr(modules.importlib.util, "find_spec", lambda name: None)
    ended: Finished = run_command(world, "serve")
    refused(ended, "src.serve: fastapi, uvicorn, python_multipart not installed; pip install -r requirements-serve.txt")


@pytest.fixture
def server(world: Path) -> Iterator[tuple[str, "subprocess.Popen[str]", Path]]:
    """Start `python -m src.serve` in a process of its own; yield its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "src.serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=world, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.stdout.readline().split()[2], process, world
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly(
    server: tuple[str, "subprocess.Popen[str]", Path], number: signal.Signals
) -> None:
    address, process, _ = server
    assert urllib.request.urlopen(f"{address}/health").status == 200
    process.send_signal(number)
    assert process.stdout
    assert process.stdout.readline() == "stopped\n"
    assert process.wait(60) == 0  # Python takes seconds to unload torch on a busy machine


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_answers_images_that_are_chosen_or_pasted(
    server: tuple[str, "subprocess.Popen[str]", Path], dark: bool, tmp_path: Path
) -> None:
    address, _, world = server
    folder = world / "input" / "svhn" / "mchar_test_a"
    with opened(address, dark=dark) as page:
        page.set_input_files("#chosen", [str(folder / f"{i:06d}.png") for i in range(2)])
        page.wait_for_function("document.querySelectorAll('.result .big').length === 2")
        page.evaluate(
            """async () => { const image = await (await fetch(document.querySelector(".seen img").src)).blob();
            const data = new DataTransfer(); data.items.add(new File([image], "<b>pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data})); }"""
        )
        page.wait_for_function("document.querySelectorAll('.result .big').length === 3")
        assert page.inner_text(".seen figcaption") == "<b>pasted.png"
        page.evaluate("add(new File([new Uint8Array(11e6)], 'large.txt'))")  # not sent, so no failed load is logged
        page.wait_for_selector(".result .bad")
        assert page.inner_text(".result .bad") == "large.txt: 11.0 MB, more than 10 MB"
    with opened(f"{address}/docs", dark=dark) as page:
        assert "POST /predict" in page.inner_text("main")
        check_widths(page)
    with opened(address, dark=dark) as page:
        page.set_input_files("#chosen", [str(folder / "000000.png")])
        page.wait_for_selector(".result .big")
        assert len(page.query_selector_all(".heads section")) == 6
        page.click("text=Where it looked")
        assert page.get_attribute(".seen img", "src").startswith("data:image/png")
        check_widths(page)
        page.screenshot(path=tmp_path / f"{dark}.png", full_page=True)


@pytest.mark.slow
def test_fifty_clients_are_answered_without_an_error_or_growth_of_memory(
    server: tuple[str, "subprocess.Popen[str]", Path],
) -> None:
    from benchmarks.serve_load import load, memory_of

    address, process, world = server
    image = (world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    load(address, image, num_clients=50, seconds=10)
    before = memory_of(process.pid)
    found = load(address, image, num_clients=50, seconds=60)
    assert found.errors == []
    assert len(found.latencies) > 200
    assert memory_of(process.pid) < before + 50e6
