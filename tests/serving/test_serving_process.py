"""The server as a process: it ends cleanly, its page works, it bears many clients."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.modules import has_modules
from tests.browser import check_widths, needs_browser, opened

pytestmark = pytest.mark.skipif(not has_modules("fastapi", "uvicorn"), reason="requirements-serve.txt is not installed")
ROOT = Path(__file__).resolve().parents[2]
DROP = """async () => {
    const image = await (await fetch(document.querySelector(".seen img").src)).blob(), data = new DataTransfer();
    data.items.add(new File([image], "dropped.png", {type: "image/png"}));
    const drop = document.getElementById("drop"), how = {dataTransfer: data, bubbles: true, cancelable: true};
    drop.dispatchEvent(new DragEvent("dragover", how));
    const marked = drop.classList.contains("over"), kept = drop.dispatchEvent(new DragEvent("drop", how));
    return marked && !kept && !drop.classList.contains("over"); }"""  # kept: the browser would leave for the image
REFUSED_ONCE = """() => {
    const answered = window.fetch;
    window.fetch = async (...what) => {
        window.fetch = answered;
        return new Response("{}", {status: 503, headers: {"Retry-After": "0.1"}}); }; }"""


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
def test_the_page_answers_images_that_are_chosen_pasted_or_dropped(
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
        assert page.evaluate(DROP)
        page.wait_for_function("document.querySelectorAll('.result .big').length === 4")
        assert page.inner_text(".seen figcaption") == "dropped.png"
        page.evaluate("add(new File([new Uint8Array(11e6)], 'large.txt'))")  # not sent, so no failed load is logged
        page.wait_for_selector(".result .bad")
        assert page.inner_text(".result .bad") == "large.txt: 11.0 MB, more than 10 MB"
    with opened(f"{address}/docs", dark=dark) as page:
        assert "POST /predict" in page.inner_text("main")
        check_widths(page)
    with opened(address, dark=dark) as page:
        page.evaluate(REFUSED_ONCE)
        page.set_input_files("#chosen", [str(folder / "000000.png")])
        page.wait_for_selector(".result .big")
        assert not page.query_selector_all(".result .bad")
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
