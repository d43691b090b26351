"""The page of a training: served while files change, written once, read in a browser."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.listening import listen
from src.watching.server import make_server
from tests.browser import check_widths, needs_browser, opened
from tests.fixtures import Podium, Train
from tests.watching.test_files import LOG, write_fold

LONG = "note: " + "a_very_long_name_without_a_space" * 8 + " </script><b>bold</b>"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a run's folder and the address of its page."""
    write_fold(tmp_path / "run" / "fold0", state="running", updated=2e9, lines=[LONG])
    with listen("127.0.0.1", 0) as (listening, address), make_server(tmp_path / "run", listening) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield tmp_path / "run", f"{address}/"
        server.shutdown()
        thread.join()


def test_a_page_and_its_state_are_served_and_nothing_else(served: tuple[Path, str]) -> None:
    run, address = served
    with urllib.request.urlopen(f"{address}state.json") as answer:
        assert json.load(answer)["folds"][0]["state"] == "running"
        assert answer.headers["Cache-Control"] == "no-store"
    for path in ("log.csv", "../fold0/log.csv", "fold0/fold.json"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + path)
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    for host, number, said in (
        ("127.0.0.1", port, f"--port {port}: another program listens there"),
        ("192.0.2.1", 0, "--host 192.0.2.1 --port 0: "),
    ):
        with pytest.raises(InputError, match=said), listen(host, number):
            pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_page_is_served_over_ipv6(tmp_path: Path) -> None:
    write_fold(tmp_path / "run" / "fold0", state="running", updated=2e9)
    try:
        with listen("::", 0) as (listening, address), make_server(tmp_path / "run", listening) as server:
            assert address.startswith("http://[::1]:")
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with urllib.request.urlopen(f"{address}/state.json") as answer:
                assert json.load(answer)["folds"][0]["state"] == "running"
            thread.join()
    except InputError as error:
        pytest.skip(str(error))


@needs_browser
def test_the_page_follows_a_training_to_its_end(served: tuple[Path, str]) -> None:
    run, address = served
    with opened(address, dark=True) as page:
        assert page.inner_text("#state") == "running"
        assert page.inner_text("#share") == "31%"
        assert LONG in page.inner_text("#lines")
        assert page.locator("#charts > div:visible").count() == 3  # loss, score, lr; LOG has no other column
        check_widths(page)
        longer = LOG + "3,0.02,1.5,0.75,9,10\n4,0.0,1.25,0.875,9,10\n"
        write_fold(run / "fold0", {"score": 0.875, "score_tta": 0.9}, longer, state="done", folds=[0])
        page.evaluate("poll()")  # which comes every two seconds by itself
        assert page.inner_text("#state") == "finished"
        assert "0.9000" in page.inner_text("#tiles")
        points = "drawnCharts.get(document.querySelector('[data-column=score] figure')).data.datasets[0].data.length"
        assert page.evaluate(points) == 4


def test_a_training_tells_what_it_does_and_how_it_ended(train: Train, podium: Podium, tmp_path: Path) -> None:
    folder, _ = train("run", "--epochs", 1)
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["fold"], status["folds"], status["epochs"]) == ("done", 0, [0], 1)
    assert status["lines"][0] == "training on cpu, float32"
    assert status["lines"][-1].startswith("fold 0: SHA-256 of the weights")
    ended = podium("watch", "run", "--once", "page.html")
    assert (ended.code, ended.out) == (0, "page: page.html\n")
    assert '"state":"done"' in (tmp_path / "page.html").read_text()
    ended = podium("watch", "run", "--once", ".")
    assert (ended.code, ended.err) == (2, "error: --once .: is a folder; give a file, such as page.html\n")
    ended = podium("watch", "nix")
    assert (ended.code, ended.err) == (2, "error: runs/svhn/nix: no such run; there are: run\n")
